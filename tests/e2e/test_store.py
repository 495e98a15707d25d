"""baton store: chunks that outlive the engines that computed them, and are shared by several."""

import itertools

import pytest

from baton import prompt_of, scaled, wait_for

TOKENS = 300
CHUNKS = -(-TOKENS // 64)


def start(baton, store, name, **flags):
    return baton.engine("both", name, node="127.0.0.1:0", node_http="127.0.0.1:0", reuse=True,
                        store=store.ready["node"], **flags)


def computed(answer):
    return answer.handoff["prompt_tokens_computed"]


def wait_stored(store, chunks):
    wait_for(lambda: store.debug()["host_tier"]["chunks"] == chunks, scaled(20),
             f"{chunks} chunks in the store")


def test_what_one_engine_computed_another_loads(baton, alone):
    store = baton.store(memory="64MiB")
    first = start(baton, store, "first")
    prompt = prompt_of(TOKENS)
    expected = alone(prompt)
    answer = first.complete(prompt)
    assert answer.tokens == expected and computed(answer) == TOKENS
    wait_stored(store, CHUNKS)
    second = start(baton, store, "second")
    answer = second.complete(prompt)
    assert answer.tokens == expected
    assert computed(answer) == 1 and answer.handoff["transport"] == "store"
    # From now on it is in its own host tier.
    answer = second.complete(prompt)
    assert answer.tokens == expected
    assert computed(answer) == 1 and answer.handoff["transport"] == "host"
    for engine in (first, second):
        engine.wait_idle()


def test_it_outlives_its_engines(baton, alone):
    store = baton.store(memory="64MiB")
    prompt = prompt_of(TOKENS, 2)
    expected = alone(prompt)
    first = start(baton, store, "first")
    assert first.complete(prompt).tokens == expected
    wait_stored(store, CHUNKS)
    first.kill()
    answer = start(baton, store, "second").complete(prompt)
    assert answer.tokens == expected
    assert computed(answer) == 1 and answer.handoff["transport"] == "store"


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_a_store_that_is_gone_hurts_nobody(baton, alone, how):
    store = baton.store(memory="64MiB")
    engine = start(baton, store, "engine", heartbeat_ms=50)
    assert engine.complete(prompt_of(100, 3)).tokens == alone(prompt_of(100, 3))
    wait_stored(store, 2)
    getattr(store, how)()
    for seed in (4, 5):
        prompt = prompt_of(TOKENS, seed)
        answer = engine.complete(prompt)
        assert answer.tokens == alone(prompt) and computed(answer) == TOKENS
    engine.wait_idle(20)
    if how == "pause":
        store.resume()
        before = store.debug()["host_tier"]["chunks"]
        fresh = itertools.count(6)

        def given_again():  # not at once: what failed is let alone for a while
            prompt = prompt_of(TOKENS, next(fresh))
            assert engine.complete(prompt).tokens == alone(prompt)
            return store.debug()["host_tier"]["chunks"] > before
        wait_for(given_again, scaled(20), "the store is given chunks again")


def test_prefillers_and_decoders_use_it_too(baton, alone):
    store = baton.store(memory="64MiB")
    prompt = prompt_of(TOKENS, 7)
    cluster = baton.cluster(store=store.ready["node"], prefill={"reuse": True})
    answer = cluster.complete(prompt)
    assert answer.tokens == alone(prompt) and computed(answer) == 1
    wait_stored(store, CHUNKS)
    cluster.prefiller.kill()
    other = baton.cluster(store=store.ready["node"], prefill={"reuse": True})
    answer = other.complete(prompt)
    assert answer.tokens == alone(prompt) and computed(answer) == 1
    computed_there = other.prefiller.metrics().value("baton_prompt_tokens_computed_total")
    assert computed_there == 1  # the rest came out of the store
    other.wait_idle()
