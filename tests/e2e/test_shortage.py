"""More requests than there is room for: each is answered, rightly or with a reason."""

import collections

import pytest

from baton import prompt_of, rounds
from client import together
from handed_off import assert_handed_off


def assert_answered(answers, expected):
    """Each with the right tokens, or with 429 and a reason. Returns how many of which."""
    outcomes = collections.Counter()
    for answer, tokens in zip(answers, expected):
        outcomes[answer.status] += 1
        if answer.status == 200:
            assert answer.tokens == tokens
        else:
            assert answer.status == 429, answer
            assert answer.error["message"], answer
    return outcomes


def assert_as_before(cluster, alone):
    """The next request is handed off as if nothing had been."""
    cluster.wait_idle()
    prompt = prompt_of(100, seed=99)
    answer = cluster.complete(prompt)
    assert_handed_off(answer, alone(prompt), 100)
    cluster.wait_idle()


# Room for two requests of the fifty at a time, or for six.
@pytest.mark.parametrize("kv_blocks", [32, 96])
def test_a_decoder_without_room(baton, alone, kv_blocks):
    # Whoever waited for the accept deadline would be past the router's budget of 30 s.
    cluster = baton.cluster(decode={"kv_blocks": kv_blocks}, accept_ms=60_000)
    prompts = [prompt_of(190, seed=i) for i in range(50)]  # 14 blocks each, with the answer
    expected = [alone(prompt) for prompt in prompts]
    answers = together([lambda p=prompt: cluster.complete(p) for prompt in prompts])
    outcomes = assert_answered(answers, expected)
    assert outcomes[200] >= 2, outcomes
    refused = preempted = 0
    for prompt, answer, tokens in zip(prompts, answers, expected):
        if answer.status != 200:
            continue
        if answer.handoff["end"] == "refused":  # no room at once: it computed all of it, later
            assert "no room" in answer.handoff["why"]
            assert answer.handoff["prompt_tokens_computed"] >= 190
            refused += 1
        else:
            # Who is preempted for want of room afterwards gives up what it received, and computes
            # it.
            computed = answer.handoff["prompt_tokens_computed"]
            assert computed == 1 or computed >= 190
            assert_handed_off(answer, tokens, len(prompt), computed=computed)
            preempted += computed != 1
    assert refused > 0
    metrics = cluster.decoder.metrics()
    assert metrics.value("baton_handoffs_total", end="refused") >= refused
    assert metrics.value("baton_engine_preemptions_total") >= preempted
    assert_as_before(cluster, alone)


def test_a_prefiller_without_room(baton, alone):
    cluster = baton.cluster(prefill={"kv_blocks": 32})
    prompts = [prompt_of(190, seed=i) for i in range(20)]
    expected = [alone(prompt) for prompt in prompts]
    answers = together([lambda p=prompt: cluster.complete(p) for prompt in prompts])
    outcomes = assert_answered(answers, expected)
    assert outcomes[200] >= 2, outcomes
    assert_as_before(cluster, alone)


def test_a_prompt_that_never_fits_the_decoder(baton, alone):
    """Less memory than one prompt needs: said at once, not waited for."""
    cluster = baton.cluster(decode={"kv_blocks": 8})
    answer = cluster.complete(prompt_of(200))
    assert answer.status in (400, 429), answer
    assert answer.error["message"]
    assert_as_before(cluster, alone)


def test_wave_after_wave(baton, alone):
    """Both sides short of room, again and again: nothing leaks and nothing hangs."""
    cluster = baton.cluster(prefillers=2, decoders=2, kv_blocks=40)
    prompts = [prompt_of(60 + 40 * (i % 5), seed=i) for i in range(12)]
    expected = [alone(prompt) for prompt in prompts]
    for _ in range(rounds(10)):
        answers = together([lambda p=prompt: cluster.complete(p) for prompt in prompts])
        assert_answered(answers, expected)
        cluster.wait_idle()
    assert_as_before(cluster, alone)
