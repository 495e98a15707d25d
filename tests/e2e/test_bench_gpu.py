"""baton bench --memory cuda: on a fake GPU (tests/fakes/fake_cuda.h), which is right and slow, and
what it says where there is none."""

import json

import pytest

from baton import BUILD
from test_bench import SMALL, bench, check

FAKE = "tests/bench_on_fake_gpu"
BUILT_WITH_CUDA = (BUILD / FAKE).exists()


def lines_of(*arguments):
    """Of the fake GPU; without CUDA there is none, and the program says so."""
    if not BUILT_WITH_CUDA:
        assert "this build has no CUDA" in bench(*arguments, code=1).stderr
        return []
    lines = [json.loads(line)
             for line in bench(*arguments, "--json", program=FAKE).stdout.splitlines()]
    for line in lines:
        check(line)
        assert line["also"]["gpu"] == "fake GPU"
        assert line["parameters"]["memory"] == "cuda:0"
    return lines


def test_kernels():
    lines = lines_of("kernels", "--memory", "cuda", "--bytes", "256KiB", "--segment-bytes", "64KiB",
                     "--block-bytes", "128KiB,4KiB", "--samples", "2")
    asked = [(line["parameters"]["operation"], line["parameters"]["block_bytes"]) for line in lines]
    operations = ["gather", "scatter", "gather to host", "scatter from host"]
    assert asked == [(operation, blocks) for blocks in (128 << 10, 4096)
                     for operation in operations if BUILT_WITH_CUDA]
    for line in lines:
        assert line["bytes"] == 256 << 10
        assert {"mapped_GBps", "default_launch_GBps"} & set(line["also"])


@pytest.mark.parametrize("mode", ["transient", "retained"])
@pytest.mark.parametrize("channel", ["local", "tcp"])
def test_handoff(channel, mode):
    for line in lines_of("handoff", "--memory", "cuda", "--channel", channel, "--mode", mode,
                         *SMALL):
        assert line["bytes"] == 128 << 10
        assert line["also"]["pcie_copy_GBps"] > 0


@pytest.mark.parametrize("question", [["kernels", "--bytes", "256KiB", "--samples", "2"],
                                      ["handoff", "--channel", "local", *SMALL]])
def test_wrong_bytes_are_seen(question):
    if not BUILT_WITH_CUDA:
        assert lines_of(*question, "--memory", "cuda") == []
        return
    done = bench(*question, "--memory", "cuda", "--corrupt", "2", program=FAKE,
                 code=1)
    assert "checksum" in done.stderr and done.stdout == ""


def test_a_gpu_that_is_not_there():
    done = bench("handoff", "--memory", "cuda:77", *SMALL, code=1)
    assert "CUDA" in done.stderr or "GPU" in done.stderr
    assert "expected host, cuda or cuda:N" in bench("handoff", "--memory", "gpu", *SMALL,
                                                    code=2).stderr
