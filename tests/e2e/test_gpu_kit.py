"""tests/gpu/run.sh and what it runs, on a fake GPU: that what is measured and what fails is
said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from baton import BUILD, scaled

ROOT = Path(__file__).resolve().parents[2]
FAKES = [BUILD / "tests/cuda_copier_test", BUILD / "tests/bench_on_fake_gpu"]


def measure(build, out, code, patience=scaled(1)):
    done = subprocess.run(
        [sys.executable, ROOT / "tests/gpu/measure.py", build, "--out", out, "--short",
         "--kernel-bytes", "1MiB", "--handoff-bytes", "2MiB", "--patience", str(patience)],
        capture_output=True, text=True, timeout=scaled(200))
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, [json.loads(line) for line in (out / "gpu.jsonl").open()]


@pytest.fixture
def build(tmp_path):
    """A build folder as run.sh makes one; without CUDA its programs are replaced by simpler
    ones."""
    (tmp_path / "tests").mkdir()
    for program, fake in zip(("tests/gpu_test", "baton-bench"), FAKES):
        if fake.exists():
            (tmp_path / program).symlink_to(fake)
        else:
            script(tmp_path / program, "exit 0")
    return tmp_path


def script(path, text):
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_every_question_has_its_lines(build, tmp_path):
    # UCX's own questions are not asked here: it may be absent.
    if FAKES[1].exists():
        real = FAKES[1]
        script(build / "baton-bench", f'case "$*" in *ucx*) exit 0 ;; esac\nexec {real} "$@"')
    shown, lines = measure(build, tmp_path / "out", 0)
    if not FAKES[1].exists():
        assert "gpu: 0 lines measured" in shown
        return
    kernels = [line for line in lines if line["name"] == "kernels"]
    assert len(kernels) == 4 * 3
    assert {line["parameters"]["channel"] for line in lines if line["name"] == "handoff"} == {
        "local", "tcp"}
    rows = [row for row in shown.splitlines() if "(against " in row]
    assert len(rows) == len(lines)
    assert f"gpu: {len(lines)} lines measured" in shown and "FAILED" not in shown


def test_what_fails_is_named_and_the_rest_goes_on(build, tmp_path):
    script(build / "tests/gpu_test", "echo 'Expected equality'; exit 1")
    script(build / "baton-bench", 'case "$*" in *tcp*) echo "no such GPU" >&2; exit 1 ;; esac')
    shown, lines = measure(build, tmp_path / "out", 1)
    assert lines == [] and "Expected equality" in shown
    failed = [line for line in shown.splitlines() if line.startswith("gpu: FAILED")]
    assert len(failed) == 2
    assert "gpu_test exited with 1" in failed[0]
    assert "--channel tcp" in failed[1] and failed[1].endswith("no such GPU")


def test_what_does_not_end_is_ended_at_its_deadline(build, tmp_path):
    script(build / "tests/gpu_test", "exec sleep 600")
    script(build / "baton-bench", "exec sleep 600")
    shown, lines = measure(build, tmp_path / "out", 1, patience=0.005)
    failed = [line for line in shown.splitlines() if line.startswith("gpu: FAILED")]
    assert lines == [] and "gpu_test did not end within 0.9 s" in failed[0]
    assert "kernels" in failed[1] and failed[1].endswith("did not end within 0.8 s")


def test_a_driver_without_a_gpu_is_no_success(build, tmp_path):
    script(build / "tests/gpu_test", "echo 'skipped: no GPU'")
    script(build / "baton-bench", "exit 0")
    assert "found no GPU" in measure(build, tmp_path / "out", 1)[0]


def test_without_a_gpu_it_is_skipped(tmp_path):
    """Whatever this machine has: a PATH whose nvidia-smi knows of none."""
    script(tmp_path / "nvidia-smi", "exit 9")
    done = subprocess.run(["bash", ROOT / "tests/gpu/run.sh"], capture_output=True, text=True,
                          env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}",
                               "OUT": str(tmp_path / "out")}, timeout=scaled(20))
    assert (done.returncode, done.stdout) == (0, "skipped: no GPU\n"), done.stderr


def test_unknown_options_are_refused():
    done = subprocess.run(["bash", ROOT / "tests/gpu/run.sh", "--shrt"], capture_output=True,
                          text=True, timeout=scaled(20))
    assert done.returncode == 2 and "--shrt" in done.stderr
