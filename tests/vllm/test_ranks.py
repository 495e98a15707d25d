"""Engines of two ranks each, of a model with two kinds of layers. Each rank's node hands its own
heads over, and vLLM keeps all layers in one group."""

import pytest

from conftest import tiny_arguments
from engines import Pair
from handed_off import alone, assert_idle, counted, request
from tiny_model import TOKEN_BYTES, prompt

RANKS = 2
BLOCK = 64
TOKENS = 300


@pytest.fixture(scope="module")
def two(start, tiny_folder):
    setup = {"arguments": tiny_arguments(tiny_folder, tensor_parallel_size=RANKS),
             "extra": {"channel": "local"}}
    engines = [start(f"ranks-{role}", role, "0|1", **setup) for role in
               ("kv_producer", "kv_consumer")]
    yield Pair(*(engine.wait_ready() for engine in engines))
    assert [engine.end() for engine in engines] == [0, 0]


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
