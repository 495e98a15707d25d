"""Engines of two ranks each, of a model with two kinds of layers: those with a sliding window and those
of full attention. Each rank's node hands its own heads over, and vLLM keeps all layers in one group.
The weights are random, and large enough that a token depends on all before it."""

import random

import pytest

from conftest import model_folder
from engines import Pair
from test_handoff import alone, assert_idle, request

RANKS = 2
LAYERS, HEADS, HEAD_DIM, VOCABULARY = 4, 2, 64, 1024
TOKEN_BYTES = LAYERS * HEADS * HEAD_DIM * 2 * 4
BLOCK = 64
TOKENS = 300


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    folder = tmp_path_factory.mktemp("two-kinds-of-layers")
    torch.manual_seed(1)
    Gemma3ForCausalLM(Gemma3TextConfig(
        hidden_size=128, intermediate_size=256, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=HEADS, head_dim=HEAD_DIM, vocab_size=VOCABULARY, sliding_window=64,
        max_position_embeddings=2048, query_pre_attn_scalar=4, initializer_range=0.3,
        tie_word_embeddings=False,
        layer_types=["sliding_attention", "full_attention"] * (LAYERS // 2),
    )).save_pretrained(folder)
    return str(folder)


def prompt(seed):
    return random.Random(seed).choices(range(3, VOCABULARY), k=TOKENS)


@pytest.fixture(scope="module")
def two(start, model):
    setup = {"arguments": {"model": model, "tokenizer": model_folder(),
                           "tensor_parallel_size": RANKS, "block_size": BLOCK,
                           "max_model_len": 1024, "max_num_batched_tokens": 1024,
                           "gpu_memory_utilization": 0.1},
             "extra": {"channel": "local"}}
    engines = [start(f"ranks-{role}", role, "0|1", **setup) for role in
               ("kv_producer", "kv_consumer")]
    yield Pair(*(engine.wait_ready() for engine in engines))
    assert [engine.end() for engine in engines] == [0, 0]


@pytest.mark.parametrize("flow", ["push", "two_step"])
def test_each_rank_hands_its_heads_over(two, flow):
    asked = request(prompt(9100))
    (right,) = alone(two.prefiller, [asked])
    _, (answer,) = getattr(two, flow)([asked])
    assert len(set(right)) > 10 and answer["tokens"] == right and answer["computed"] == 1
    said = answer["params"]["baton"]
    assert said["end"] == "committed" and said["transport"] == "local"
    assert said["bytes"] == -(-TOKENS // BLOCK) * BLOCK * TOKEN_BYTES
    for engine in (two.prefiller, two.decoder):
        assert len(engine.call("nodes")) == RANKS
        assert_idle(engine)


def test_a_prefiller_of_another_number_of_ranks_is_not_waited_for(two):
    asked = request(prompt(9200))
    (right,) = alone(two.prefiller, [asked])
    (answer,) = two.decoder.generate([{**asked, "params": {"baton": {
        "handoff": "33333333-2222-3333-4444-555555555555", "role": "decode",
        "peer": two.prefiller.call("nodes")[:1]}}}])
    assert answer["tokens"] == right and answer["computed"] == TOKENS
    assert "1 ranks, this instance 2" in answer["params"]["baton"]["why"]
