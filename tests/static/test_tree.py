"""What must hold of the sources as text: who includes whom, what lies where, who reads the
environment."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A room's files may include files under these prefixes. transfer/base is a room of its own here.
ALLOWED = {
    "transfer/base": ("transfer/base/",),
    "kernels": ("transfer/base/", "kernels/"),
    "scheduler": ("transfer/base/", "scheduler/"),
    "transfer": ("transfer/", "kernels/", "scheduler/"),
    "connectors": ("transfer/", "kernels/", "scheduler/", "connectors/"),
    "router": ("transfer/base/", "scheduler/", "router/"),
    "examples": ("transfer/", "kernels/", "scheduler/", "connectors/", "router/http/", "examples/"),
    "perf": ("transfer/", "kernels/", "scheduler/", "connectors/", "perf/"),
}
ROOMS = ("transfer", "scheduler", "kernels", "connectors", "router", "examples", "tests", "perf")
TOP_LEVEL = {*ROOMS, "CMakeLists.txt", "README.md", "LICENSE", "CMakePresets.json", ".ci"}

CODE = (".h", ".cc", ".cu", ".cuh")
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.MULTILINE)
READS_ENVIRONMENT = re.compile(r"\b(?:secure_)?getenv\s*\(|\benviron\b|(?:->|\.)envname\s*\(")
ENVIRONMENT_FILE = "transfer/base/env.cc"


def tracked_files():
    """Paths from the root: what git tracks or would track; without git, what is not hidden."""
    git = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others",
         "--exclude-standard"], cwd=ROOT, capture_output=True)
    if git.returncode == 0:
        names = [name for name in git.stdout.decode().split("\0") if name]
        return [name for name in names if (ROOT / name).is_file()]
    ignored = re.compile(r"^(build(-[^/]*)?|models|\.[^/]*)/|__pycache__/")
    names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()]
    return [name for name in names if not ignored.search(name)]


@pytest.fixture(scope="module")
def sources():
    """{path: text} of the C++ and CUDA files of the rooms that the product is made of."""
    return {name: (ROOT / name).read_text() for name in tracked_files()
            if name.endswith(CODE) and not name.startswith("tests/")}


def room_of(name):
    return "transfer/base" if name.startswith("transfer/base/") else name.split("/")[0]


def include_violations(sources, exists):
    found = []
    for name, text in sorted(sources.items()):
        for quote, target in INCLUDE.findall(text):
            ours = target.split("/")[0] in ROOMS
            if quote == "<" and not ours:
                continue
            if quote == "<":
                found.append(f'{name}: <{target}> is ours: write "{target}"')
            elif not ours or not exists(target):
                found.append(f'{name}: "{target}" is not a path from the root of the repository')
            elif not target.startswith(ALLOWED[room_of(name)]):
                found.append(f'{name}: "{target}" is not for {room_of(name)} to include')
    return found


def test_includes_point_one_way(sources):
    assert len(sources) > 10
    assert include_violations(sources, lambda target: (ROOT / target).is_file()) == []


@pytest.mark.parametrize("name, line, wrong", [
    ("transfer/base/a.h", '#include "transfer/arena.h"', True),
    ("transfer/base/a.h", '#include "transfer/base/b.h"', False),
    ("kernels/a.cc", '#include "scheduler/a.h"', True),
    ("scheduler/a.cc", '#include "transfer/node.h"', True),
    ("transfer/a.cc", '#include "kernels/a.h"', False),
    ("transfer/a.cc", '#include "connectors/a.h"', True),
    ("connectors/a.cc", '#include "examples/a.h"', True),
    ("router/a.cc", '#include "transfer/node.h"', True),
    ("router/a.cc", '#include "scheduler/a.h"', False),
    ("router/a.cc", '  #  include "connectors/a.h"', True),
    ("examples/a.cc", '#include "router/http/a.h"', False),
    ("examples/a.cc", '#include "router/dispatch.h"', True),
    ("examples/a.cc", '#include "tests/fakes/a.h"', True),
    ("perf/a.cc", '#include "router/http/a.h"', True),
    ("transfer/a.cc", '#include "arena.h"', True),
    ("transfer/a.cc", "#include <transfer/arena.h>", True),
    ("transfer/a.cc", "#include <boost/asio.hpp>", False),
])
def test_the_include_check_sees(name, line, wrong):
    violations = include_violations({name: f"#pragma once\n{line}\n"}, lambda target: True)
    assert bool(violations) == wrong, violations


def test_an_include_that_is_not_there_is_seen():
    sources = {"transfer/a.cc": '#include "transfer/no_such_file.h"\n'}
    assert len(include_violations(sources, lambda target: False)) == 1


def needs_tests(text):
    """Whether a script imports or starts something of tests/, by a path that it names."""
    return re.search(r"""["']tests["'/]|(?<![\w-])tests/""", text) is not None


def test_examples_need_no_tests():
    scripts = [name for name in tracked_files()
               if name.startswith("examples/") and name.endswith((".py", ".sh"))]
    assert "examples/quickstart.py" in scripts
    assert [name for name in scripts if needs_tests((ROOT / name).read_text())] == []


@pytest.mark.parametrize("line, needs", [
    ('sys.path.append(str(ROOT / "tests" / "hosts"))', True),
    ("exec python3 tests/run.py", True),
    ("source ../tests/lib.sh", True),
    ("# For tests, measurements and the quickstart.", False),
    ("contests/run.sh", False),
])
def test_the_check_of_examples_sees(line, needs):
    assert needs_tests(line) == needs


def test_nothing_lies_outside_the_rooms():
    tops = {name.split("/")[0] for name in tracked_files()}
    outside = {top for top in tops if top not in TOP_LEVEL and not top.startswith(".")}
    assert outside == set()
    # Of what begins with a dot, only .ci is a folder.
    folders = {name.split("/")[0] for name in tracked_files() if "/" in name}
    assert {folder for folder in folders if folder.startswith(".")} <= {".ci"}


def test_the_environment_is_read_in_one_place(sources):
    readers = {name for name, text in sources.items() if READS_ENVIRONMENT.search(text)}
    assert readers == {ENVIRONMENT_FILE}


def test_every_environment_variable_is_documented(sources):
    named = set(re.findall(r'"(BATON_[A-Z_]+)"', sources[ENVIRONMENT_FILE]))
    documented = set(re.findall(r"^// \| (BATON_[A-Z_]+)", sources["transfer/base/env.h"],
                                re.MULTILINE))
    assert named and named == documented
