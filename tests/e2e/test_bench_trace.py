"""baton bench trace: the hit rates of generated workload traces are those of a few lines of Python,
and the published trace of conversations, where BATON_TRACE says where it is, has the ones that are
known for it."""

import json
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest

from baton import BUILD, SANITIZED, scaled

MAKE_TRACE = Path(__file__).resolve().parents[2] / "perf/make_trace.py"
REQUESTS = 2_000 if SANITIZED else 10_000


def bench(*arguments, code=0):
    done = subprocess.run([BUILD / "baton-bench", "trace", *map(str, arguments)],
                          capture_output=True, text=True, timeout=scaled(120))
    assert done.returncode == code, done.stderr
    return done


def lines_of(file, *arguments):
    return [json.loads(line) for line in bench(file, *arguments, "--json").stdout.splitlines()]


def make(path, *arguments):
    made = subprocess.run([sys.executable, MAKE_TRACE, *map(str, arguments)], check=True,
                          capture_output=True, text=True, timeout=scaled(60)).stdout
    path.write_text(made)
    return path


def requests_of(path):
    return [json.loads(line)["hash_ids"] for line in path.read_text().splitlines()]


def lru_hits(requests, room):
    """Blocks of leading runs that are found. A request's own blocks stay while it runs; then they
    are used from the last to the first."""
    cache, hits = OrderedDict(), 0
    for blocks in requests:
        leading = next((i for i, b in enumerate(blocks) if b not in cache), len(blocks))
        hits += leading
        own = blocks[:leading]
        for block in own:
            del cache[block]
        for block in blocks[leading:]:
            if cache.pop(block, 0) is None:  # further behind, it is there still
                own.append(block)
            elif len(cache) + len(own) < room or (cache and cache.popitem(last=False)):
                own.append(block)
        cache.update((block, None) for block in reversed(own))
    return hits


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    return make(tmp_path_factory.mktemp("trace") / "trace.jsonl", "--requests", REQUESTS,
                "--seed", 7)


def test_lru_finds_what_a_few_lines_of_python_find(trace):
    requests = requests_of(trace)
    blocks = sum(map(len, requests))
    rooms = [50, 1_000, 5_000]
    lines = lines_of(trace, "--policy", "lru", "--capacity-blocks", "50,1k,5000,unlimited")
    assert [line["parameters"]["capacity_blocks"] for line in lines] == [*rooms, None]
    for line, room in zip(lines, [*rooms, blocks]):
        hits = lru_hits(requests, room)
        assert line["name"] == "trace" and line["parameters"]["policy"] == "lru"
        assert line["hits"] == {"host": hits, "nvme": None, "s3": None}
        assert line["hit_percent"] == pytest.approx(100 * hits / blocks, abs=0.01)
        assert line["ratio"] == 1
        assert line["also"]["blocks"] == blocks and line["also"]["requests"] == REQUESTS
        assert line["also"]["held_bytes"] == 64 * min(room, line["also"]["distinct_blocks"])
        assert line["bytes"] == 64 * line["also"]["inserted"]
    assert lines[-1]["evictions"] == 0 and lines[0]["evictions"] > 0
    assert lines[-1]["hit_percent"] == lines[0]["also"]["unlimited_hit_percent"]


def test_the_default_policy_finds_more(trace):
    """Where room is short. And says how much, beside lru in the same run."""
    lru = lines_of(trace, "--policy", "lru", "--capacity-blocks", "200,1k")
    both = lines_of(trace, "--policy", "age-per-use,s3fifo", "--capacity-blocks", "200,1k")
    default = lines_of(trace, "--capacity-blocks", "200,1k")
    assert [line["parameters"]["policy"] for line in both] == [
        "age-per-use", "age-per-use", "s3fifo", "s3fifo"]
    for line, beside, of_lru in zip(default, both, lru):
        assert line["hits"] == beside["hits"]
        assert line["hits"]["host"] > of_lru["hits"]["host"]
        assert line["also"]["reference_hit_percent"] == of_lru["hit_percent"]
        assert line["ratio"] == pytest.approx(
            line["hits"]["host"] / of_lru["hits"]["host"], rel=1e-3)


def test_the_table(trace):
    heading, *rows = bench(trace, "--capacity-blocks", "1k,5k").stdout.splitlines()
    assert "hits" in heading and "evictions" in heading
    assert len(rows) == 2 and all("age-per-use" in row for row in rows)


def test_the_same_arguments_make_the_same_trace(tmp_path):
    first = make(tmp_path / "a", "--requests", 200, "--seed", 3, "--block-tokens", 16).read_text()
    assert make(tmp_path / "b", "--requests", 200, "--seed", 3, "--block-tokens",
                16).read_text() == first
    assert make(tmp_path / "c", "--requests", 200, "--seed", 4, "--block-tokens",
                16).read_text() != first
    lines = [json.loads(line) for line in first.splitlines()]
    assert len(lines) == 200
    assert all(a["timestamp"] <= b["timestamp"] for a, b in zip(lines, lines[1:]))
    assert lines_of(tmp_path / "a", "--block-tokens", 16)[0]["also"]["requests"] == 200
    # Turns go on where the one before ended: many prompts begin as another one does.
    seen, continued = set(), 0
    for line in lines:
        ids = line["hash_ids"]
        continued += len(ids) > 9 and tuple(ids[:9]) in seen  # longer than a system prompt
        seen.update(tuple(ids[:n]) for n in range(1, len(ids) + 1))
    assert continued > 20


@pytest.mark.parametrize("arguments", [["--requests", "0"], ["--pause-ms", "-5"]])
def test_wrong_words_for_the_generator(arguments):
    done = subprocess.run([sys.executable, MAKE_TRACE, *arguments], capture_output=True, text=True,
                          timeout=scaled(60))
    assert done.returncode == 2 and arguments[0] in done.stderr


@pytest.mark.parametrize("arguments, named, code", [
    (["no-such-file"], "no-such-file: No such file", 1),
    (["{trace}", "--policy", "fifo"], "'fifo' is no eviction policy", 2),
    (["{trace}", "--capacity-blocks", "10k,0"], "'0' is not a number from 1", 2),
    (["{trace}", "--capacity-blocks", "10x"], "'10x'", 2),
    (["{trace}", "--capacity-blocks", "99999999999999999999"], "99999999999999999999", 2),
    (["{trace}", "--block-tokens", "256"], ":1: hash_ids has", 1),
    ([], "file", 2),
])
def test_wrong_words(trace, arguments, named, code):
    done = bench(*[word.format(trace=trace) for word in arguments], "--json", code=code)
    assert named in done.stderr and done.stderr.count("\n") <= 1 and done.stdout == ""


def test_a_line_that_is_wrong_is_named(trace, tmp_path):
    lines = trace.read_text().splitlines()[:5]
    lines[3] = lines[3].replace('"input_length": ', '"input_length": "many", "was": ')
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text("\n".join(lines) + "\n")
    done = bench(wrong, "--json", code=1)
    assert f"{wrong}:4: input_length is \"many\"" in done.stderr and done.stdout == ""


def test_wrong_bytes_end_it(trace):
    done = bench(trace, "--json", "--corrupt", "100", code=1)
    assert done.stdout == "" and "checksum" in done.stderr


@pytest.mark.skipif("BATON_TRACE" not in os.environ, reason="BATON_TRACE names no file")
def test_the_published_conversations():
    """All-block prefix lru over the trace of conversations of Mooncake (FAST '25)."""
    known = {1_000: 4.45, 10_000: 21.12, 30_000: 32.57, 50_000: 35.46, None: 36.64}
    lines = lines_of(os.environ["BATON_TRACE"], "--policy", "lru,age-per-use",
                     "--capacity-blocks", "1k,10k,30k,50k,unlimited")
    for line in lines:
        hit_percent = known[line["parameters"]["capacity_blocks"]]
        if line["parameters"]["policy"] == "lru":
            assert line["hit_percent"] == pytest.approx(hit_percent, abs=0.1)
        else:
            assert line["hit_percent"] >= hit_percent - 0.005
