"""Runs vLLM's own connector tests, as they are, with our connector or with vLLM's NixlConnector.

    driver.py baton|nixl        prints each test and what became of it
"""

import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(HERE))

import expected  # noqa: E402
import sdist  # noqa: E402

UNIT = "tests/v1/kv_connector/unit/"
DEADLINE_S = 600


def run(connector, build=ROOT / "build-vllm", model=None):
    """{test: (outcome, text)} of all that ran; the tests are fetched already (sdist.get)."""
    tests = sdist.folder(build)
    if not tests.is_dir():
        raise RuntimeError(f"{tests} is not there: tests/vllm/run.sh fetches it")
    environment = {
        **os.environ, "BATON_UPSTREAM": connector,
        "BATON_UPSTREAM_MODEL": str(model or build / "smollm2-float32"),
        "PYTHONPATH": os.pathsep.join(filter(None, (
            str(tests), str(HERE), os.environ.get("PYTHONPATH")))),
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch) / "results.xml"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:warnings",
             "-p", "no:cacheprovider", "-p", "pointed_at_baton", f"--rootdir={tests}",
             f"--junit-xml={results}", *(UNIT + each for each in expected.RUN)],
            cwd=tests, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=DEADLINE_S)
        if done.returncode not in (0, 1) or not results.is_file():
            raise RuntimeError(f"pytest ended with {done.returncode}: {done.stdout[-4000:]}")
        return dict(map(_outcome, ElementTree.parse(results).iter("testcase")))


def _outcome(case):
    module, _, inside = case.get("classname").removeprefix(
        UNIT.replace("/", ".")).partition(".")
    test = "::".join(filter(None, (f"{module}.py", inside, case.get("name"))))
    for child in case:
        if child.tag in ("failure", "error", "skipped"):
            return test, (child.tag, f"{child.get('message') or ''}\n{child.text or ''}")
    return test, ("passed", "")


def main():
    for test, (outcome, text) in run(sys.argv[1]).items():
        said = re.findall(r"^E +(.*)", text, re.MULTILINE)
        print(outcome, test, f"({said[0]})" if said else "")


if __name__ == "__main__":
    main()
