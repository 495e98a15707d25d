"""--name-regex REGEX (tests/run.sh --filter): only tests whose node id matches."""

import re


def pytest_addoption(parser):
    parser.addoption("--name-regex", default=None, help="only tests whose node id matches")


def pytest_collection_modifyitems(config, items):
    pattern = config.getoption("--name-regex")
    if pattern is None:
        return
    dropped = [item for item in items if not re.search(pattern, item.nodeid)]
    items[:] = [item for item in items if re.search(pattern, item.nodeid)]
    config.hook.pytest_deselected(items=dropped)
