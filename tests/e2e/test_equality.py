"""A prompt prefilled by one process and decoded by another gives the tokens that one process
alone gives; and the decoder computed one token of it, and the rest came over the channel."""

import pytest

from baton import KV_BYTES_PER_TOKEN, prompt_of
from client import together
from handed_off import assert_counted, assert_handed_off
from legs import Legs

LENGTHS = (1, 15, 16, 17, 255, 256, 257, 600, 1500)
BLOCKS = ((16, 16), (16, 32), (32, 16))
CHUNKS = (64, 256)


# Pairwise: every length meets every pair of block sizes and both chunk sizes.
@pytest.mark.parametrize("pair", range(len(BLOCKS)), ids=["16to16", "16to32", "32to16"])
@pytest.mark.parametrize("chunk", range(len(CHUNKS)), ids=["chunk64", "chunk256"])
def test_block_and_chunk_sizes(baton, alone, pair, chunk):
    prefill_block, decode_block = BLOCKS[pair]
    cluster = baton.cluster(prefill={"block_tokens": prefill_block},
                            decode={"block_tokens": decode_block}, chunk_tokens=CHUNKS[chunk])
    lengths = [length for i, length in enumerate(LENGTHS) if (i + pair) % 2 == chunk]
    for length in lengths:
        prompt = prompt_of(length, seed=pair)
        assert_handed_off(cluster.complete(prompt), alone(prompt), length)
    assert_counted(cluster.decoders, len(lengths), len(lengths), sum(lengths))
    assert cluster.prefiller.metrics().value("baton_prompt_tokens_computed_total") == sum(lengths)
    cluster.wait_idle()


def test_answers_depend_on_the_prompt(alone):
    """Else equal tokens would say nothing."""
    one, other = prompt_of(300, seed=1), prompt_of(300, seed=2)
    assert alone(one) != alone(other)
    early = list(one)
    early[3] = (early[3] + 1) % 256
    assert alone(early) != alone(one)


@pytest.mark.parametrize("mode", ["retain", "transient"])
def test_both_modes_of_the_sender(baton, alone, mode):
    cluster = baton.cluster(prefill={mode: True})
    for length in (100, 256):
        prompt = prompt_of(length)
        assert_handed_off(cluster.complete(prompt), alone(prompt), length)
    cluster.wait_idle()
    held = cluster.prefiller.debug()["slots"]["held"]
    assert held == (0 if mode == "transient" else 2 + 4)  # 100 tokens in chunks of 64, and 256


@pytest.mark.parametrize("prefill_chunk", [32, 100, 1000])
def test_chunked_prefill(baton, alone, prefill_chunk):
    """Steps of the prefiller that do not align with chunks or blocks."""
    cluster = baton.cluster(prefill={"prefill_chunk": prefill_chunk})
    for length in (99, 100, 101, 450):
        prompt = prompt_of(length)
        assert_handed_off(cluster.complete(prompt), alone(prompt), length)
    cluster.wait_idle()


def test_two_by_two_twenty_at_once(baton, alone):
    cluster = baton.cluster(prefillers=2, decoders=2)
    prompts = [prompt_of(7 + 23 * i) for i in range(20)]
    expected = [alone(prompt) for prompt in prompts]
    answers = together([lambda p=prompt: cluster.complete(p) for prompt in prompts])
    for prompt, tokens, answer in zip(prompts, expected, answers):
        assert_handed_off(answer, tokens, len(prompt))
    total = sum(map(len, prompts))
    assert_counted(cluster.decoders, 20, 20, total)
    for engine in cluster.engines:  # nobody stood aside
        assert engine.metrics().value("baton_prompt_tokens_computed_total") > 0
    cluster.wait_idle()


@pytest.mark.parametrize("first, crossed", [
    (256, 100),        # four whole chunks of 64 are held
    (250, 350 - 192),  # three: a tail chunk of 58 tokens is no part of a longer prompt
])
def test_only_what_the_decoder_lacks_crosses(baton, alone, first, crossed):
    cluster = baton.cluster(decode={"retain_received": True})
    shared = prompt_of(first)
    assert_handed_off(cluster.complete(shared), alone(shared), first)
    longer = shared + prompt_of(100, seed=7)
    assert_handed_off(cluster.complete(longer), alone(longer), first + 100, crossed)
    assert_counted(cluster.decoders, 2, 2, first + crossed)
    cluster.wait_idle()


def test_nothing_crosses_twice(baton, alone):
    cluster = baton.cluster(decode={"retain_received": True})
    prompt = prompt_of(200)
    assert_handed_off(cluster.complete(prompt), alone(prompt), 200)
    assert_handed_off(cluster.complete(prompt), alone(prompt), 200, crossed_tokens=0)
    metrics = cluster.decoder.metrics()
    assert metrics.value("baton_handoff_bytes_total") == 200 * KV_BYTES_PER_TOKEN
    assert metrics.value("baton_handoffs_total", end="committed") == 2
    cluster.wait_idle()


def test_streams_and_text_prompts(baton, alone):
    cluster = baton.cluster()
    prompt = "Baton passes what was computed once to whoever needs it next. " * 3
    expected = alone(list(prompt.encode()))
    streamed = cluster.router.api.stream_completion(prompt)
    answer = streamed.read()
    assert_handed_off(answer, expected, len(prompt))
    assert len(streamed.times) >= 24  # an event a token
    again = cluster.complete(prompt)
    assert_handed_off(again, expected, len(prompt))
    assert again.text == answer.text
    cluster.wait_idle()


def test_chat(baton):
    cluster = baton.cluster()
    engine = baton.alone()
    messages = [{"role": "system", "content": "You pass batons."},
                {"role": "user", "content": "Who runs the last leg? " * 10}]
    expected = engine.api.chat(messages)
    answer = cluster.router.api.chat(messages)
    assert_handed_off(answer, expected.tokens, expected.usage["prompt_tokens"])
    assert answer.text == expected.text
    body = {"model": cluster.router.api.model, "messages": messages, "max_tokens": 24,
            "temperature": 0, "return_token_ids": True}
    streamed = cluster.router.api.stream("/v1/chat/completions", body).read()
    assert_handed_off(streamed, expected.tokens, expected.usage["prompt_tokens"])
    assert streamed.text == expected.text
    cluster.wait_idle()


def test_seeded_sampling(baton, alone):
    cluster = baton.cluster()
    prompt = prompt_of(120)
    sampled = {"temperature": 1.0, "top_p": 0.9, "seed": 11}
    expected = alone(prompt, **sampled)
    assert expected != alone(prompt)
    assert_handed_off(cluster.complete(prompt, **sampled), expected, len(prompt))


def test_one_token_answers(baton, alone):
    cluster = baton.cluster()
    prompt = prompt_of(90)
    assert_handed_off(cluster.complete(prompt, 1), alone(prompt, 1), 90)
    cluster.wait_idle()


@pytest.mark.parametrize("first, then", [("prefill", "decode"), ("decode", "prefill")])
def test_either_leg_may_arrive_first(baton, alone, first, then):
    cluster = baton.cluster()
    prompt = prompt_of(200)
    with Legs(cluster.prefiller, cluster.decoder, prompt) as legs:
        answers = {first: legs.send(first)}
        legs.wait_known(cluster.decoder)  # its record is there before the other leg is sent
        answers[then] = legs.send(then)
        assert answers["prefill"].result().status == 200
        assert_handed_off(answers["decode"].result(), alone(prompt), 200)
    cluster.wait_idle()


def test_two_at_once_with_the_same_id(baton, alone):
    """Whichever comes second is refused or computes; neither gets the other's bytes."""
    cluster = baton.cluster()
    one, other = prompt_of(180), prompt_of(180, seed=1)
    with Legs(cluster.prefiller, cluster.decoder, one) as first, \
            Legs(cluster.prefiller, cluster.decoder, other, handoff=first.handoff) as second:
        sent = [(legs.prompt, legs.send(role)) for role in ("decode", "prefill")
                for legs in (first, second)]
        for prompt, answer in [(prompt, leg.result()) for prompt, leg in sent[:2]]:
            if answer.status == 200:
                assert answer.tokens == alone(prompt)
            else:
                assert answer.error["message"]
    cluster.wait_idle()


def test_a_retry_as_attempt_two(baton, alone):
    """The first attempt is cancelled before its prefill leg is sent."""
    cluster = baton.cluster()
    prompt = prompt_of(170)
    first = Legs(cluster.prefiller, cluster.decoder, prompt)
    with first, first.open("decode") as abandoned:
        first.wait_known(cluster.decoder)
        abandoned.close()
    with Legs(cluster.prefiller, cluster.decoder, prompt, handoff=first.handoff,
              attempt=2) as second:
        decoded, prefilled = second.send("decode"), second.send("prefill")
        assert_handed_off(decoded.result(), alone(prompt), 170)
        assert prefilled.result().status == 200
    cluster.wait_idle()


def test_a_prompt_that_is_too_long(baton, alone):
    cluster = baton.cluster()
    answer = cluster.complete(prompt_of(4090), 24)  # the model's context is 4,096 tokens
    assert answer.status == 400
    assert "4096" in answer.error["message"] and "4090" in answer.error["message"]
    assert answer.error["type"] == "invalid_request_error"
    prompt = prompt_of(50)
    assert_handed_off(cluster.complete(prompt), alone(prompt), 50)
    cluster.wait_idle()
