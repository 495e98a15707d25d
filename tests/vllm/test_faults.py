"""What goes wrong with a handoff costs time and no tokens, and nothing is left of it. With the tiny
model: what fails here are processes, at moments."""

import random
import signal
import time
import uuid

import pytest

from fake_prefiller import FakePrefiller
from handed_off import alone, assert_idle, request
from tiny_model import LAYERS, prompt

TOKENS = 300


@pytest.fixture
def pair(tiny):
    return tiny


def asked_for(ids):
    """Few tokens: the first ones show whether the KV was right."""
    return request(ids, max_tokens=8)


def decode_with(pair, asked, **what):
    """The decoder's answer, its handoff coming from a fake prefiller."""
    handoff = str(uuid.uuid4())
    fake = FakePrefiller(pair, asked, handoff, **what)
    try:
        (answer,) = pair.decoder.generate([{**asked, "params": {"baton": {
            "handoff": handoff, "role": "decode", "budget_ms": 60_000}}}])
        return answer
    finally:
        fake.end()


def test_bytes_of_nobody_change_the_tokens(pair):
    """The control: equal tokens elsewhere mean equal KV, since KV that verifies and is wrong gives
    other tokens."""
    asked = asked_for(prompt(TOKENS, seed=7000))
    (right,) = alone(pair.prefiller, [asked])
    answer = decode_with(pair, asked, after="sent", layers_done=LAYERS, then="complete",
                         numbers=True)
    assert answer["computed"] == 1 and answer["params"]["baton"]["end"] == "committed"
    assert answer["tokens"] != right
    assert_idle(pair.decoder)


def fails_at(pair, after, layers, then):
    asked = asked_for(prompt(TOKENS, seed=7100 + layers))
    (right,) = alone(pair.prefiller, [asked])
    answer = decode_with(pair, asked, after=after, layers_done=layers, then=then)
    assert answer["tokens"] == right and answer["finish_reason"] == "length"
    # Before its last layers nothing of a chunk is whole.
    assert answer["computed"] == TOKENS
    assert answer["params"]["baton"]["end"] != "committed"
    assert_idle(pair.decoder)


THEN = pytest.mark.parametrize("then", ["die", "stop", "abort"])


@pytest.mark.parametrize("tiny", ["local"], indirect=True)
@THEN
@pytest.mark.parametrize("after", ["made", "begun"])
def test_a_prefiller_that_fails_before_a_byte_moved(pair, after, then):
    fails_at(pair, after, 0, then)


@THEN
@pytest.mark.parametrize("after, layers", [("accepted", 0), ("sent", 1), ("sent", 2),
                                           ("sent", LAYERS - 1)])
def test_a_prefiller_that_fails(pair, after, layers, then):
    fails_at(pair, after, layers, then)


def test_a_stopped_engine_and_what_it_says_afterwards(pair):
    """The prefiller's whole process stops and comes back: the decoder has computed meanwhile."""
    asked = asked_for(prompt(TOKENS, seed=7200))
    (right,) = alone(pair.prefiller, [asked])
    handoff = {"handoff": str(uuid.uuid4()), "budget_ms": 60_000}
    peer = pair.decoder.call("nodes")
    (sent,) = pair.prefiller.call("submit", [{**asked, "max_tokens": 1, "params": {
        "baton": {**handoff, "role": "prefill", "peer": peer}}}])
    pair.prefiller.process.send_signal(signal.SIGSTOP)
    try:
        (answer,) = pair.decoder.generate([{**asked, "params": {
            "baton": {**handoff, "role": "decode"}}}])
    finally:
        pair.prefiller.process.send_signal(signal.SIGCONT)
    assert answer["tokens"] == right and answer["computed"] == TOKENS
    assert pair.prefiller.call("steps", 1000) == {sent: right[:1]}
    for engine in (pair.prefiller, pair.decoder):
        assert_idle(engine)


ROUNDS = 100  # over each channel


def test_aborts_at_any_step_leave_nothing(pair):
    """Seeded rounds: requests on both sides, each stepped for a while, some aborted on either."""
    seed = 8000
    chance = random.Random(seed)
    ids = {tokens: prompt(tokens, seed=seed + tokens) for tokens in (40, 129, 300)}
    right = {tokens: alone(pair.prefiller, [asked_for(of)])[0] for tokens, of in ids.items()}
    nodes = [engine.call("nodes") for engine in (pair.prefiller, pair.decoder)]
    ended, whole = {}, 0
    for turn in range(ROUNDS):
        live, expected = {pair.prefiller: [], pair.decoder: []}, {}
        for _ in range(chance.randint(1, 3)):
            tokens = chance.choice(list(ids))
            asked = asked_for(ids[tokens])
            handoff = {"handoff": str(uuid.uuid4()), "budget_ms": 20_000}
            legs = [(pair.prefiller, "prefill", nodes[1], 1), (pair.decoder, "decode", nodes[0], 8)]
            chance.shuffle(legs)
            for engine, role, peer, most in legs:
                (request_id,) = engine.call("submit", [{**asked, "max_tokens": most, "params": {
                    "baton": {**handoff, "role": role, "peer": peer}}}])
                live[engine].append(request_id)
                expected[engine, request_id] = right[tokens][:most]
        for _ in range(chance.randint(0, 12)):
            engine = chance.choice(list(live))
            for request_id, got in engine.call("steps", chance.randint(1, 4)).items():
                ended[engine, request_id] = got
            if chance.random() < 0.3:
                engine.call("abort", [chance.choice(live[engine])])
        end = time.monotonic() + 120
        while any(engine.call("state")["requests"] for engine in live):
            assert time.monotonic() < end, (turn, [engine.call("state") for engine in live])
            for engine in live:
                for request_id, got in engine.call("steps", 3).items():
                    ended[engine, request_id] = got
        for key, tokens in expected.items():  # aborted, or right
            assert ended.get(key, tokens) == tokens, (turn, key[0].name)
            whole += key in ended and key[0] is pair.decoder
        for engine in live:
            assert_idle(engine)
        if turn == 10:
            early = {engine: engine.call("held")["descriptors"] for engine in live}
    assert whole > ROUNDS / 4  # enough of them went their whole way
    for engine in live:
        end = time.monotonic() + 60  # the last handoffs' ends are still being told to the peer
        while (held := engine.call("held"))["slots"] or held["quarantined"]:
            assert time.monotonic() < end, held
        # What a channel opens when it first needs it, and not one more for each round.
        assert held["descriptors"] - early[engine] < ROUNDS / 4
