import pytest

from baton import Baton


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the logs of the processes that it started."""
    report = (yield).get_result()
    started = item.funcargs.get("baton") if hasattr(item, "funcargs") else None
    if started is not None and report.when == "call":
        item.stash_logs = started.logs() if report.failed else []
    if report.failed:
        for name, command, tail in getattr(item, "stash_logs", []):
            report.sections.append((f"{name}: {command}", tail))


@pytest.fixture
def baton(tmp_path):
    """Starts processes for this test; they end with it, and must end well."""
    stack = Baton(tmp_path)
    yield stack
    problems = stack.end()
    assert not problems, "; ".join(problems)


@pytest.fixture(scope="session")
def alone(tmp_path_factory):
    """The engine alone, with the defaults of all tests: what every answer must equal. One for
    all tests; its answers are remembered."""
    stack = Baton(tmp_path_factory.mktemp("alone"))
    engine = stack.alone()
    remembered = {}

    def tokens(prompt, max_tokens=24, **fields):
        key = (tuple(prompt), max_tokens, tuple(sorted(fields.items())))
        if key not in remembered:
            remembered[key] = engine.complete(prompt, max_tokens, **fields).tokens
        return remembered[key]
    yield tokens
    problems = stack.end()
    assert not problems, "; ".join(problems)
