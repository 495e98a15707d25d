"""baton bench on tiny sizes: that each question answers in the form that is promised, that wrong
bytes end it with 1, and what it does with wrong words. Never how fast anything was."""

import json
import os
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from baton import BUILD, HAS_UCX, SANITIZED, scaled

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples"))
from s3_gateway import missing_programs  # noqa: E402

FIELDS = ["name", "parameters", "bytes", "goodput_GBps", "reference", "reference_GBps", "ratio",
          "median_ms", "p95_ms", "p99_ms", "samples", "blame", "also", "machine", "date"]
STAGES = {"queued", "offer", "wait_compute", "gather", "send", "verify_scatter"}
# As end to end: ucx in release, where it was built.
CHANNELS = ["local", "tcp"] + (["ucx"] if HAS_UCX and not SANITIZED else [])

# One layer of a block is 4 KiB, a segment four blocks.
SMALL = ["--layers", "2", "--bytes", "128KiB", "--block-bytes", "4KiB", "--segment-bytes", "16KiB",
         "--samples", "2"]


def bench(*arguments, program="baton-bench", code=0):
    done = subprocess.run([BUILD / program, *arguments], capture_output=True, text=True,
                          timeout=scaled(60))
    assert done.returncode == code, done.stderr
    return done


def lines_of(*arguments):
    done = bench(*arguments, "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for line in lines:
        assert list(line) == FIELDS
        check(line)
    return lines


def check(line):
    assert line["name"] and line["reference"] and line["machine"]
    assert isinstance(line["parameters"], dict) and isinstance(line["also"], dict)
    for field in ("ratio", "median_ms", "p95_ms"):
        assert line[field] > 0
    assert line["p95_ms"] >= line["median_ms"]
    assert line["p99_ms"] is None or line["samples"] >= 100
    if line["bytes"] is None:
        assert line["goodput_GBps"] is None and line["reference_GBps"] is None
    else:
        rate = line["bytes"] / (line["median_ms"] * 1e-3) / 1e9
        assert line["goodput_GBps"] == pytest.approx(rate, rel=0.01)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line["date"])


def test_keys():
    lines = lines_of("keys", "--tokens", "100,600", "--samples", "2")
    assert [line["parameters"]["tokens"] for line in lines] == [100, 600]
    # So many prompts that a sample has 16 MiB of tokens.
    assert all(0 < line["bytes"] <= 16 << 20 for line in lines)


def test_kernels():
    lines = lines_of("kernels", "--bytes", "256KiB", "--segment-bytes", "64KiB", "--run-bytes",
                     "4KiB,128B", "--block-bytes", "16KiB", "--samples", "2")
    asked = [(line["parameters"]["operation"], line["parameters"]["run_bytes"],
              line["parameters"].get("layouts")) for line in lines]
    assert asked == [("gather", 4096, None), ("gather", 128, None), ("scatter", 4096, None),
                     ("scatter", 128, None), ("scatter", 64, "NHD to HND"),
                     ("scatter", 64, "HND to NHD")]
    for line in lines:
        assert line["bytes"] == 256 << 10
        assert {"memcpy_GBps", "unchecked_GBps", "checksum_as_own_pass_GBps"} <= set(line["also"])


@pytest.mark.parametrize("mode", ["transient", "retained"])
@pytest.mark.parametrize("channel", CHANNELS)
def test_handoff(channel, mode):
    lines = lines_of("handoff", "--channel", channel, "--mode", mode, "--layers", "2", "--bytes",
                     "128KiB", "--block-bytes", "8KiB,4KiB", "--segment-bytes", "16KiB",
                     "--samples", "2")
    assert [line["parameters"]["block_bytes"] for line in lines] == [8192, 4096]
    for line in lines:
        assert line["parameters"]["channel"] == channel and line["parameters"]["mode"] == mode
        assert line["bytes"] == 128 << 10 and line["samples"] == 2
        assert line["blame"] in STAGES
        assert line["also"]["verify_scatter_share"] <= 1


@pytest.mark.parametrize("layout", ["nhd", "hnd", "opaque"])
def test_handoff_of_a_layout(layout):
    [line] = lines_of("handoff", "--channel", "local", "--layout", layout, *SMALL)
    assert line["parameters"]["layout"] == layout


def test_a_model_gives_the_sizes(tmp_path):
    sizes = tmp_path / "tiny.json"
    sizes.write_text(json.dumps({"name": "tiny", "layers": 3, "kv_heads": 2, "head_dim": 16,
                                 "block_tokens": 8}))
    [line] = lines_of("handoff", "--channel", "local", "--model", sizes, "--bytes", "96KiB",
                      "--samples", "1")
    assert line["parameters"]["layers"] == 3
    assert line["parameters"]["block_bytes"] == 2 * 8 * 2 * 16 * 2
    assert line["parameters"]["segment_bytes"] == 256 * 2 * 2 * 16 * 2

    sizes.write_text('{"layers": 3, "kvheads": 2}')
    assert "kvheads" in bench("handoff", "--model", sizes, code=2).stderr


def test_latency():
    [line] = lines_of("latency", "--channel", "local", "--bytes", "16KiB", "--block-bytes", "4KiB",
                      "--segment-bytes", "16KiB", "--samples", "3")
    assert line["bytes"] == 16 << 10
    assert line["also"]["round_trip_us"] > 0


def test_many():
    [line] = lines_of("many", "--channel", "local", "--count", "5", "--bytes", "16KiB",
                      "--block-bytes", "4KiB", "--segment-bytes", "16KiB", "--samples", "2")
    assert line["parameters"]["count"] == 5 and line["bytes"] == 5 * 16 << 10


def test_a_small_one_beside_a_large_one():
    [line] = lines_of("many", "--mix", "--beside", "64MiB", "--channel", "local", "--bytes",
                      "16KiB", "--block-bytes", "4KiB", "--segment-bytes", "16KiB",
                      "--samples", "3")
    assert line["parameters"]["mix"] and line["samples"] == 3


def test_pipeline():
    lines = lines_of("pipeline", "--channel", "local", *SMALL)
    assert [line["parameters"]["t_over_c"] for line in lines] == [0.1, 0.3, 1, 3, 10]
    for line in lines:
        assert line["also"]["compute_ms"] > 0 and line["also"]["busy_compute_ratio"] > 0


HOST_TIER = ["tier", "--tier", "host", "--chunks", "2000", "--tokens", "1000", "--layers", "2",
             "--bytes", "136KiB", "--block-bytes", "4KiB", "--segment-bytes", "16KiB"]


def test_tier_host():
    hit, lookup = lines_of(*HOST_TIER, "--samples", "2")
    assert hit["parameters"]["operation"] == "hit" and hit["bytes"] == 136 << 10
    assert lookup["parameters"]["operation"] == "look-up"
    assert lookup["parameters"]["chunks"] == 2000  # 500 prompts of four, the last a tail
    assert lookup["bytes"] == lookup["also"]["prompts"] * 1000 * 4
    assert 0 < lookup["also"]["lookup_us"] < lookup["median_ms"] * 1e3


def test_checksum():
    [line] = lines_of("checksum", "--channel", "local", *SMALL)
    assert line["also"]["own_pass_ratio"] < 1


NVME_TIER = ["tier", "--tier", "nvme", "--layers", "2", "--segment-bytes", "64KiB,4KiB",
             "--chunks", "5", "--samples", "2"]


def test_tier_nvme(tmp_path):
    lines = lines_of(*NVME_TIER, "--folder", tmp_path)
    asked = [(line["parameters"]["segment_bytes"], line["parameters"]["operation"])
             for line in lines]
    assert asked == [(size, operation) for size in (65536, 4096)
                     for operation in ("store", "read", "both")]
    for line in lines:
        chunks = 4 if line["parameters"]["operation"] == "both" else 5
        assert line["bytes"] == chunks * 2 * line["parameters"]["segment_bytes"]
        assert line["also"]["fixed_buffers_ratio"] > 0
    assert list(tmp_path.iterdir()) == []


S3_TIER = ["tier", "--tier", "s3", "--layers", "2", "--segment-bytes", "64KiB", "--chunks", "3",
           "--connections", "1,2", "--samples", "2"]
needs_gateway = pytest.mark.skipif(bool(missing_programs()),
                                   reason=f"no {', '.join(missing_programs())} here")


@needs_gateway
def test_tier_s3(tmp_path):
    lines = lines_of(*S3_TIER, "--folder", tmp_path)
    asked = [(line["parameters"]["connections"], line["parameters"]["operation"])
             for line in lines]
    assert asked == [(connections, operation) for connections in (1, 2)
                     for operation in ("store", "read", "first layer")]
    for line in lines:
        first = line["parameters"]["operation"] == "first layer"
        assert line["bytes"] == (None if first else 3 * 2 * 65536)
        if first:
            assert line["also"]["share_of_bound"] > 0 and line["also"]["round_trip_ms"] > 0
    assert list(tmp_path.iterdir()) == []


def test_an_s3_service_that_is_not_there():
    done = subprocess.run([BUILD / "baton-bench", *S3_TIER, "--url",
                           "s3://bucket?endpoint=http://127.0.0.1:9"],
                          env={**os.environ, "AWS_ACCESS_KEY_ID": "a",
                               "AWS_SECRET_ACCESS_KEY": "s"},
                          capture_output=True, text=True, timeout=scaled(120))
    assert done.returncode == 1 and "tier: " in done.stderr, done.stderr


@pytest.mark.parametrize("question", [
    [*NVME_TIER, "--folder"],
    pytest.param([*S3_TIER, "--folder"], marks=needs_gateway)], ids=["nvme", "s3"])
def test_a_tier_that_gives_back_something_else(question, tmp_path):
    done = bench(*question, tmp_path, "--corrupt", "3", code=1)
    assert "is another than was stored" in done.stderr


@pytest.mark.parametrize("question", [
    ["keys", "--tokens", "100"],
    ["kernels", "--bytes", "64KiB", "--segment-bytes", "16KiB", "--run-bytes", "1KiB"],
    ["handoff", "--channel", "local", *SMALL],
    ["latency", "--channel", "local", *SMALL],
    ["many", "--channel", "local", "--count", "2", *SMALL],
    ["pipeline", "--channel", "local", *SMALL],
    ["checksum", "--channel", "local", *SMALL],
    HOST_TIER,
])
def test_wrong_bytes_end_it(question):
    done = bench(*question, "--json", "--corrupt", "1", code=1)
    assert done.stdout == ""
    assert "checksum" in done.stderr


@pytest.mark.parametrize("arguments, named", [
    ([], "which question"),
    (["handoff", "--channel", "pigeon"], "pigeon"),
    (["handoff", "--bytes", "12 parsecs"], "12 parsecs"),
    (["handoff", "--model", "no-such-model"], "no-such-model"),
    (["handoff", "--bytes", "1KiB", "--block-bytes", "4KiB"], "4096"),
    (["keys", "--samples", "0"], "samples"),
    (["tier"], "--tier"),
    (["tier", "--tier", "tape"], "tape"),
    (["tier", "--tier", "host", "--bytes", "1KiB"], "1KiB"),
    ([*S3_TIER, "--connections", "0"], "connections"),
    ([*S3_TIER, "--url", "ftp://bucket"], "ftp://bucket"),
    (["--serve", "--listen", "192.0.2.1:1"], "192.0.2.1"),
])
def test_wrong_words(arguments, named):
    done = bench(*arguments, code=2)
    assert named in done.stderr and done.stdout == ""


def test_the_table_and_the_program_before_it():
    done = bench("bench", "keys", "--tokens", "100", "--samples", "2", program="baton")
    heading, titles, row, *_ = done.stdout.splitlines()
    assert "OpenSSL SHA-256" in heading and "ratio" in titles and "tokens=100" in row


# What external.cc starts: servers wait for a client, which prints what the program prints.
IPERF3 = """case $1 in -s) exec sleep 100;; esac
echo '{"end": {"sum_received": {"bits_per_second": 24e9}}}'
"""
UCX_PERFTEST = """case $* in *ucp_am_bw*) ;; *) exec sleep 100;; esac
echo 'header, without, figures'
echo '100,1.0,2.0,2.0,1000.00,2000.00,250,500'
"""


OTHER_PROGRAMS = [("tcp", "iperf3", IPERF3, 24e9 / 8),
                  ("ucx", "ucx_perftest", UCX_PERFTEST, 2000 * 2**20)]


@pytest.mark.parametrize("channel, program, script, rate",
                         [each for each in OTHER_PROGRAMS if each[0] in CHANNELS])
def test_other_programs_beside_our_reference(tmp_path, monkeypatch, channel, program, script, rate):
    stand_in = tmp_path / program
    stand_in.write_text("#!/bin/sh\n" + script)
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    [line] = lines_of("handoff", "--channel", channel, "--external", *SMALL)
    assert line["also"][f"{program}_GBps"] == pytest.approx(rate / 1e9, rel=0.01)
    assert line["also"][f"share_of_{program}"] == pytest.approx(
        line["bytes"] / rate / (line["median_ms"] * 1e-3), rel=0.01)
    assert line["also"][f"reference_of_{program}"] > 0
    assert ("warm_stream_of_iperf3" in line["also"]) == (program == "iperf3")


def test_another_program_that_is_missing_costs_nobody_the_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = bench("handoff", "--json", "--channel", "tcp", "--external", *SMALL)
    assert json.loads(done.stdout)["also"]["iperf3_GBps"] is None
    assert "needs iperf3" in done.stderr


@pytest.mark.parametrize("channel, gathers", [("local", True), ("tcp", False)])
def test_a_timeline_is_a_waterfall(tmp_path, channel, gathers):
    """tcp sends such blocks from where they lie, and receives them where they belong."""
    file = tmp_path / "timeline.json"
    lines_of("handoff", "--channel", channel, "--timeline", file, *SMALL)
    events = json.loads(file.read_text())["traceEvents"]
    slices = {}
    for event in events:
        if event["ph"] == "M":
            continue
        key = event["args"]["chunk"], event["args"]["layer"]
        if event["ph"] == "X":
            slices[event["cat"], key] = event["ts"], event["ts"] + event["dur"]
        else:
            begin, end = slices.get(("send", key), (None, None))
            slices["send", key] = ((event["ts"], end) if event["ph"] == "b" else
                                   (begin, event["ts"]))
    segments = {key for stage, key in slices if stage == "verify_scatter"}
    assert segments == {(chunk, layer) for chunk in range(4) for layer in range(2)}
    for key in segments:
        moments = [*(slices["gather", key] if gathers else []), *slices["send", key],
                   *slices["verify_scatter", key]]
        assert all(a <= b + 1e-3 for a, b in zip(moments, moments[1:]))  # microseconds
    stages = {"compute", "send", "verify_scatter"} | ({"gather"} if gathers else set())
    assert {stage for stage, _ in slices} == stages


def test_two_programs():
    serving = subprocess.Popen([BUILD / "baton-bench", "--serve", "--listen", "127.0.0.1:0"],
                               stderr=subprocess.PIPE, text=True)
    try:
        address = serving.stderr.readline().split()[-1]
        for _ in range(2):  # it serves one after another
            [line] = lines_of("handoff", "--channel", "local", "--connect", address, *SMALL)
            assert line["parameters"]["connect"] == address
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.wait(timeout=scaled(10))
        serving.stderr.close()


def test_a_chart_of_the_lines(tmp_path):
    results = tmp_path / "results.jsonl"
    results.write_text(bench("keys", "--tokens", "100,600", "--samples", "1", "--json").stdout)
    plot = Path(__file__).resolve().parents[2] / "perf/plot.py"
    done = subprocess.run([sys.executable, plot, results, "--by", "tokens", "--title", "A < B"],
                          capture_output=True, text=True, timeout=scaled(30))
    assert done.returncode == 0, done.stderr
    root = ElementTree.fromstring(done.stdout)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"A < B", "100", "600"} <= set(texts)
