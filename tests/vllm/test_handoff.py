"""Real engines, real weights: a prefiller and a decoder give the tokens of one engine alone, and
the decoder computed one token of the prompt."""

import time

import pytest

from handed_off import alone, assert_handed_off, counted, kv_bytes, metric, request
from prompts import prompt

SOURCES = ("external_kv_transfer", "local_cache_hit")
# By the blocks and steps of each pair (conftest.py): around one block, and of several.
LENGTHS = {"local": [1, 127, 128, 129, 600], "tcp": [31, 32, 33, 600, 1500]}
TWO_STEPS = {"local": 129, "tcp": 600}
# Which pair it is makes no difference to the question.
ONE = pytest.mark.parametrize("pair", ["local"], indirect=True)


def prompt_tokens(engine):
    """By vLLM's own counters, where its prompts' tokens came from."""
    return {source: counted(engine, "prompt_tokens_by_source", source) for source in SOURCES}


@pytest.mark.parametrize("nth", range(5))
def test_push_is_equal_to_one_engine(pair, tokenizer, nth):
    tokens = LENGTHS[pair.channel][nth]
    asked = [request(prompt(tokenizer, tokens, seed=tokens))]
    (right,) = alone(pair.prefiller, asked)
    before = metric(pair.decoder, "baton_handoff_bytes_total")
    own = prompt_tokens(pair.decoder)
    prefills, decodes = pair.push(asked)
    assert prefills[0]["tokens"] == right[:1] and prefills[0]["computed"] == tokens
    assert decodes[0]["tokens"] == right
    assert_handed_off(pair, asked, decodes)
    # A prompt of one token needs no KV of anybody else.
    crossed = kv_bytes(pair, tokens) if tokens > 1 else 0
    assert metric(pair.decoder, "baton_handoff_bytes_total") - before == crossed
    # vLLM's own counters agree.
    now = prompt_tokens(pair.decoder)
    assert now["external_kv_transfer"] - own["external_kv_transfer"] == (
        tokens if tokens > 1 else 0)
    assert now["local_cache_hit"] == own["local_cache_hit"]


def test_two_steps_are_equal_to_one_engine(pair, tokenizer):
    tokens = TWO_STEPS[pair.channel]
    asked = [request(prompt(tokenizer, tokens, seed=2000 + tokens))]
    (right,) = alone(pair.prefiller, asked)
    prefills, decodes = pair.two_step(asked)
    assert prefills[0]["tokens"] == right[:1]
    assert decodes[0]["tokens"] == right
    assert_handed_off(pair, asked, decodes)


def test_eight_at_once(pair, tokenizer):
    asked = [request(prompt(tokenizer, tokens, seed=3000 + tokens))
             for tokens in (5, 40, 100, 128, 150, 200, 257, 300)]
    right = alone(pair.prefiller, asked)
    _, decodes = pair.push(asked)
    assert [answer["tokens"] for answer in decodes] == right
    assert_handed_off(pair, asked, decodes)


@ONE
def test_a_prefix_that_another_request_of_the_same_step_computes(pair, tokenizer):
    """vLLM takes the second's beginning for cached when it schedules both, before it is
    computed."""
    ids = prompt(tokenizer, 600, seed=4100)
    asked = [request(ids[:tokens], salt=f"same step {pair.channel}") for tokens in (600, 550)]
    right = [alone(pair.prefiller, [one])[0] for one in asked]
    prefills, decodes = pair.push(asked)
    assert prefills[1]["computed"] < 550  # it did
    assert [answer["tokens"] for answer in decodes] == right
    assert all(answer["params"]["baton"]["end"] == "committed" for answer in decodes)


@ONE
def test_what_the_decoder_has_cached_is_not_sent(pair, tokenizer):
    ids = prompt(tokenizer, 500, seed=4000)
    first, second = request(ids[:300], salt=f"kept {pair.channel}"), request(
        ids, salt=f"kept {pair.channel}")
    (right,) = alone(pair.prefiller, [second])
    _, decodes = pair.push([first])
    assert_handed_off(pair, [first], decodes)
    _, decodes = pair.push([second])
    assert decodes[0]["tokens"] == right
    # Whole blocks of the first prompt; what is not a whole chunk of them crosses with its chunk.
    assert_handed_off(pair, [second], decodes, held=256)


@ONE
def test_nobody_prefills(pair, tokenizer):
    """The prefiller's node is not there: the decoder computes, as its policy says."""
    asked = request(prompt(tokenizer, 200, seed=5000))
    (right,) = alone(pair.prefiller, [asked])
    (answer,) = pair.decoder.generate([{**asked, "params": {"baton": {
        "handoff": "11111111-2222-3333-4444-555555555555", "role": "decode", "flow": "fetch",
        "peer": ["127.0.0.1:1"]}}}])
    assert answer["tokens"] == right and answer["computed"] == 200
    assert answer["params"]["baton"]["end"] == "failed" and answer["params"]["baton"]["why"]


@ONE
def test_the_engines_step_does_not_wait_for_the_decoder(pair, tokenizer):
    """The decoder's leg never comes: the prefiller answers as soon as it has computed."""
    asked = request(prompt(tokenizer, 200, seed=6000), max_tokens=1)
    handoff = {"handoff": "22222222-2222-3333-4444-555555555555", "role": "prefill",
               "peer": pair.decoder.call("nodes"), "budget_ms": 60_000}
    began = time.monotonic()
    (answer,) = pair.prefiller.generate([{**asked, "params": {"baton": handoff}}])
    assert answer["computed"] == 200
    assert time.monotonic() - began < 25  # before the offer's own deadline
    pair.prefiller.call("step_until_idle")  # retained: its blocks are free without the decoder
    state = pair.prefiller.call("state")
    assert state["free_blocks"] == state["blocks"] - 1
