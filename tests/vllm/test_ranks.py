"""Engines of two ranks each, of a model with two kinds of layers. Each rank's node hands its own
heads over, and vLLM keeps all layers in one group."""

import json
import time
import uuid

import pytest

from conftest import tiny_arguments
from engines import Pair
from handed_off import alone, assert_idle, counted, request
from http_of import free_ports_in_a_row, get, post
from tiny_model import TOKEN_BYTES, prompt

RANKS = 2
BLOCK = 64
TOKENS = 300


@pytest.fixture(scope="module")
def two(start, tiny_folder):
    http = free_ports_in_a_row(RANKS)
    # The prefiller computes a prompt in steps of 128 tokens.
    prefiller, decoder = (
        start(f"ranks-{role}", role, "0|1", extra={"channel": "local", **extra},
              arguments=tiny_arguments(tiny_folder, tensor_parallel_size=RANKS, **arguments))
        for role, extra, arguments in (
            ("kv_producer", {}, {"max_num_batched_tokens": 128}),
            ("kv_consumer", {"node_http": f"127.0.0.1:{http}"}, {})))
    pair = Pair(prefiller.wait_ready(), decoder.wait_ready())
    pair.http = [f"http://127.0.0.1:{http + rank}" for rank in range(RANKS)]
    yield pair
    assert [engine.end() for engine in (prefiller, decoder)] == [0, 0]


@pytest.mark.parametrize("flow", ["push", "two_step"])
def test_each_rank_hands_its_heads_over(two, flow):
    asked = request(prompt(TOKENS, seed=9100))
    (right,) = alone(two.prefiller, [asked])
    _, (answer,) = getattr(two, flow)([asked])
    assert len(set(right)) > 10 and answer["tokens"] == right and answer["computed"] == 1
    said = answer["params"]["baton"]
    assert said["end"] == "committed" and said["transport"] == "local"
    assert said["bytes"] == -(-TOKENS // BLOCK) * BLOCK * TOKEN_BYTES
    for engine in (two.prefiller, two.decoder):
        assert len(engine.call("nodes")) == RANKS
        assert_idle(engine)
    # Each rank counts. Their errors are counted there too: this process has none of them.
    assert counted(two.decoder, "baton_loads") == RANKS * (1 if flow == "push" else 2)
    assert [counted(engine, "baton_errors") for engine in (two.prefiller, two.decoder)] == [0, 0]


def test_a_prefiller_of_another_number_of_ranks_is_not_waited_for(two):
    asked = request(prompt(TOKENS, seed=9200))
    (right,) = alone(two.prefiller, [asked])
    (answer,) = two.decoder.generate([{**asked, "params": {"baton": {
        "handoff": "33333333-2222-3333-4444-555555555555", "role": "decode",
        "peer": two.prefiller.call("nodes")[:1]}}}])
    assert answer["tokens"] == right and answer["computed"] == TOKENS
    assert "1 ranks, this instance 2" in answer["params"]["baton"]["why"]


def until(condition, deadline=60):
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end


@pytest.mark.parametrize("rank", range(RANKS))
def test_one_rank_that_fails_with_blocks_given_costs_the_handoff_of_all(two, rank):
    """The other rank's bytes come, or have come; of neither is anything used."""
    asked = request(prompt(TOKENS, seed=9300 + rank))
    (right,) = alone(two.prefiller, [asked])
    handoff = {"handoff": str(uuid.uuid4()), "budget_ms": 60_000}
    nodes = [engine.call("nodes") for engine in (two.prefiller, two.decoder)]
    (sent,) = two.prefiller.call("submit", [{**asked, "max_tokens": 1, "params": {
        "baton": {**handoff, "role": "prefill", "peer": nodes[1]}}}])
    (loaded,) = two.decoder.call("submit", [{**asked, "params": {
        "baton": {**handoff, "role": "decode", "peer": nodes[0]}}}])
    ended = two.prefiller.call("steps", 1)  # of three

    def given():
        """Blocks, to both ranks."""
        two.decoder.call("steps", 1)
        live = [json.loads(get(f"{url}/debug/handoffs"))["handoffs"] for url in two.http]
        return all(each and each[0]["state"] == "receiving" for each in live)

    until(given)
    post(f"{two.http[rank]}/handoffs/{handoff['handoff']}/fail", {"reason": "the test says so"})
    assert two.decoder.call("steps", 100_000) == {loaded: right}
    ended.update(two.prefiller.call("steps", 100_000))
    assert ended == {sent: right[:1]}
    for engine in (two.prefiller, two.decoder):
        assert_idle(engine)
