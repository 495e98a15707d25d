"""Chunks on NVMe: found again by the engine or store that comes after, however the last one
ended."""

import pytest

from baton import KV_BYTES_PER_TOKEN, prompt_of, scaled, wait_for

TOKENS = 300
CHUNKS = -(-TOKENS // 64)
CHUNK_BYTES = 64 * KV_BYTES_PER_TOKEN


@pytest.fixture
def device(tmp_path):
    return f"{tmp_path}/kv:64MiB"


def start(baton, name, **flags):
    return baton.engine("both", name, node="127.0.0.1:0", node_http="127.0.0.1:0", reuse=True,
                        **flags)


def on_nvme(process):
    return process.metrics().value("baton_tier_chunks", tier="nvme")


def wait_stored(process, chunks):
    wait_for(lambda: on_nvme(process) == chunks, scaled(20), f"{chunks} chunks on NVMe")


def loaded(engine, prompt, expected, transport):
    answer = engine.complete(prompt)
    assert answer.tokens == expected
    assert answer.handoff["prompt_tokens_computed"] == 1
    assert answer.handoff["transport"] == transport


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_an_engine_that_comes_after_finds_what_was_kept(baton, alone, device, how):
    first = start(baton, "first", nvme=device)
    prompt = prompt_of(TOKENS)
    expected = alone(prompt)
    answer = first.complete(prompt)
    assert answer.tokens == expected and answer.handoff["prompt_tokens_computed"] == TOKENS
    wait_stored(first, CHUNKS)
    getattr(first, how)()
    first.wait(scaled(20))
    second = start(baton, "second", nvme=device)
    assert on_nvme(second) == CHUNKS
    loaded(second, prompt, expected, "nvme")
    loaded(second, prompt, expected, "host")  # brought up
    second.wait_idle()


def test_a_host_tier_of_a_few_chunks_is_enough(baton, alone, device):
    engine = start(baton, "engine", nvme=device, host_tier=str(3 * CHUNK_BYTES))
    prompts = [prompt_of(TOKENS, seed) for seed in range(4)]
    expected = [alone(prompt) for prompt in prompts]
    for prompt, tokens in zip(prompts, expected):
        assert engine.complete(prompt).tokens == tokens
    for prompt, tokens in zip(prompts, expected):
        answer = engine.complete(prompt)
        assert answer.tokens == tokens
    assert engine.metrics().value("baton_tier_chunks", tier="host") <= 3
    engine.wait_idle()


def test_a_store_finds_what_it_kept(baton, alone, device):
    store = baton.store(memory="64MiB", nvme=device)
    first = start(baton, "first", store=store.ready["node"])
    prompt = prompt_of(TOKENS, 2)
    expected = alone(prompt)
    assert first.complete(prompt).tokens == expected
    wait_stored(store, CHUNKS)
    first.kill()
    store.kill()
    again = baton.store("again", memory="64MiB", nvme=device)
    assert on_nvme(again) == CHUNKS
    second = start(baton, "second", store=again.ready["node"])
    loaded(second, prompt, expected, "store")
    second.wait_idle()


def test_another_models_device_is_refused_by_name(baton, device):
    start(baton, "first", nvme=device)
    baton.end()
    other = start(baton, "other", nvme=device, chunk_tokens=128, wait=False)
    other.expected_to_end = True
    assert other.wait(scaled(20)) in (1, 2)
    assert device.split(":")[0] in other.log and "slab size" in other.log


def test_a_device_has_one_process(baton, device):
    start(baton, "first", nvme=device)
    other = start(baton, "other", nvme=device, wait=False)
    other.expected_to_end = True
    assert other.wait(scaled(20)) == 1
    assert device.split(":")[0] in other.log and "another process" in other.log
