"""An instance that offloads: what vLLM's own prefix cache has evicted comes back from the node's
host tier instead of being computed."""

import pytest

import tiny_model
from conftest import tiny_arguments
from handed_off import assert_idle, metric, request
from offloading import CHUNK, EVICTING, KEPT, TOKENS, evict, host_tokens
from prompts import prompt

@pytest.fixture
def engine(small):
    return small


@pytest.fixture(scope="module")
def tails(start, tiny_folder):
    """Of the tiny model, with sixteen blocks for KV, and tails kept too."""
    engine = start("tails", "kv_both", 0, extra={"offload_tails": True}, arguments=tiny_arguments(
        tiny_folder, num_gpu_blocks_override=17)).wait_ready()
    yield engine
    assert engine.end() == 0


def evict_all(tails, seed):
    (other,) = tails.generate([request(tiny_model.prompt(1000, seed=seed))])
    assert other["computed"] == 1000


def test_an_evicted_prefix_is_loaded_and_not_computed(engine, tokenizer):
    first = request(prompt(tokenizer, TOKENS, seed=9000))
    kept = metric(engine, "baton_tier_chunks")
    (once,) = engine.generate([first])
    assert once["computed"] == TOKENS and once["params"] is None
    assert_idle(engine)
    assert metric(engine, "baton_tier_chunks") - kept == KEPT // CHUNK
    evict(engine, prompt(tokenizer, EVICTING, seed=9001))
    before = host_tokens(engine)
    (again,) = engine.generate([first])
    assert again["tokens"] == once["tokens"]
    assert again["computed"] == TOKENS - KEPT
    assert host_tokens(engine) - before == KEPT
    assert_idle(engine)
    # Nothing was kept a second time: the tier had it.
    assert metric(engine, "baton_tier_chunks") - kept == KEPT // CHUNK + EVICTING // CHUNK


def test_a_prompt_that_comes_again_is_loaded_with_its_tail(tails):
    for tokens in (600 - CHUNK, 100):  # behind whole chunks, and alone
        first = request(tiny_model.prompt(tokens, seed=9400 + tokens))
        (once,) = tails.generate([first])
        assert once["computed"] == tokens
        evict_all(tails, seed=9401 + tokens)
        before = host_tokens(tails)
        (again,) = tails.generate([first])
        assert again["tokens"] == once["tokens"] and again["computed"] == 1
        assert host_tokens(tails) - before >= tokens - 1
        assert_idle(tails)


def test_what_vllm_itself_still_has_is_not_loaded(engine, tokenizer):
    asked = request(prompt(tokenizer, TOKENS, seed=9002))
    (once,) = engine.generate([asked])
    before = host_tokens(engine)
    (again,) = engine.generate([asked])
    assert again["tokens"] == once["tokens"] and again["computed"] < 128 + 1
    assert host_tokens(engine) == before
    assert_idle(engine)


def test_a_longer_prompt_loads_the_beginning(engine, tokenizer):
    ids = prompt(tokenizer, 1000, seed=9003)
    shorter = request(ids[:600], salt="offload longer")
    engine.generate([shorter])
    evict(engine, prompt(tokenizer, EVICTING, seed=9004))
    longer = {**shorter, "prompt": ids}
    (answer,) = engine.generate([longer])
    assert answer["computed"] == 1000 - 512
    (right,) = engine.generate([request(ids)])
    assert right["computed"] == 1000 and answer["tokens"] == right["tokens"]
    assert_idle(engine)


def test_a_prefix_that_another_request_of_the_same_step_computes_is_kept_right(tails):
    ids = tiny_model.prompt(600, seed=9500)
    right = [tails.generate([request(ids[:tokens])])[0]["tokens"] for tokens in (600, 550)]
    asked = [request(ids[:tokens], salt="same step") for tokens in (600, 550)]
    answers = tails.generate(asked)
    assert answers[1]["computed"] < 550
    assert [answer["tokens"] for answer in answers] == right
    evict_all(tails, seed=9501)
    before = host_tokens(tails)
    assert [tails.generate([one])[0]["tokens"] for one in asked] == right
    assert host_tokens(tails) - before >= 2 * CHUNK
    assert_idle(tails)


def test_a_reset_drops_what_was_kept(engine, tokenizer):
    asked = request(prompt(tokenizer, TOKENS, seed=9007))
    (once,) = engine.generate([asked])
    assert metric(engine, "baton_tier_chunks") >= KEPT // CHUNK
    assert engine.call("reset") is True
    engine.call("step_until_idle")  # by a step that no request needs
    assert metric(engine, "baton_tier_chunks") == 0
    (again,) = engine.generate([asked])
    assert again["computed"] == TOKENS and again["tokens"] == once["tokens"]
    assert_idle(engine)


def test_another_tenant_finds_nothing(engine, tokenizer):
    ids = prompt(tokenizer, TOKENS, seed=9005)
    engine.generate([request(ids, salt="tenant one")])
    evict(engine, prompt(tokenizer, EVICTING, seed=9006))
    (answer,) = engine.generate([request(ids, salt="tenant two")])
    assert answer["computed"] == TOKENS
    assert_idle(engine)
