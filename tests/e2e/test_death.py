"""Engines that die, stop, or lose their client between OFFER and COMMIT: right tokens or a clear
error within the budget, and nothing stays behind. A round counts only if the decoder was receiving
when it struck."""

import random
import socket
import struct
import time

import pytest

from baton import LAYERS, prompt_of, rounds, scaled, wait_for
from faults import (Hold, assert_right_or_clear, in_background, receiving, restart,
                    wait_handed_off, wait_receiving)
from handed_off import assert_handed_off

NOTICED_S = 1.0  # 4 missed heartbeats of 200 ms; the same in every preset
LOOKING_S = 1.0  # to be scheduled and to look (an HTTP request), on cores that others use too
BUDGET_MS = 20_000
ENDED_S = BUDGET_MS / 1000 + 1.0  # the budget, and the answer's way back
STEP = 64  # tokens a prefill step, and a chunk
ANSWER = 400  # tokens of an answer that is to be broken off


class Held:
    """A request whose prefill is held in the midst of a step. Use as a context: it lets go at the
    end and waits for the answer."""

    def __init__(self, rounds_, send):
        self._rounds = rounds_
        self._send = send
        self.random = rounds_.random
        self.prompt = prompt_of(self.random.randrange(130, 600), seed=self.random.random())
        self.steps = self.random.randrange(0, 2)  # whole ones before it is held

    def __enter__(self):
        hold = self._rounds.hold
        hold.set_again()
        self._background = in_background(self._timed)
        self._future = self._background.__enter__()
        try:
            for _ in range(self.steps):
                hold.release()
            hold.wait_held()
            self.decoder = wait_for(
                lambda: next((d for d in self._rounds.cluster.decoders if receiving(d)), None),
                scaled(10), "a decoder is receiving")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._rounds.hold.lift()
        self._background.__exit__(None, None, None)

    def _timed(self):
        began = time.monotonic()
        answer = self._send(self.prompt)
        self.seconds = time.monotonic() - began
        return answer

    def answer(self):
        """The answer, which came within the budget."""
        answer = self._future.result()
        assert self.seconds < ENDED_S, self.seconds
        return answer


class Rounds:
    """A cluster whose prefiller can be held inside a prefill, and requests to strike in."""

    def __init__(self, baton, alone, tmp_path, decoders=1, seed=0):
        self.alone = alone
        self.random = random.Random(seed)
        self.hold = Hold(tmp_path / "hold")
        self.layer = self.random.randrange(1, LAYERS)
        self.prefill = {"program": "tests/faulty_engine", "hold": self.hold.at_layer(self.layer),
                        "prefill_chunk": STEP}
        self.cluster = baton.cluster(decoders=decoders, prefill=self.prefill,
                                     router={"budget_ms": BUDGET_MS, "health_period_ms": 200})
        self.hold.lift()
        self.settle()

    def held_request(self):
        return Held(self, self.cluster.complete)

    def settle(self):
        wait_for(lambda: self.cluster.router.metrics().value("baton_router_instance_healthy")
                 == len(self.cluster.engines), scaled(10), "the router has all of them back")
        self.cluster.wait_idle()
        prompt = prompt_of(20, seed=self.random.random())
        wait_handed_off(self.cluster, prompt, self.alone(prompt))
        # A prefiller that had the chunks already computes on after its decoder has answered.
        self.cluster.wait_idle()


def noticed_after(began, condition, what):
    """Waits for the condition; it is true within the second in which a peer's end is noticed, and
    seen to be soon after."""
    wait_for(condition, scaled(5), what)
    seconds = time.monotonic() - began
    assert seconds < NOTICED_S + LOOKING_S, f"{what}, but after {seconds:.3f} s"


def test_prefiller_is_killed(baton, alone, tmp_path):
    r = Rounds(baton, alone, tmp_path, seed=1)
    for _ in range(rounds(30)):
        with r.held_request() as held:
            began = time.monotonic()
            r.cluster.prefiller.kill()
            noticed_after(began, lambda: not receiving(held.decoder), "the decoder noticed")
            answer = held.answer()
        assert answer.tokens == alone(held.prompt)  # nothing stands in the way of computing it
        assert answer.handoff["end"] == "failed"
        # The chunks of the steps before may have come whole; nothing later can have.
        computed = answer.handoff["prompt_tokens_computed"]
        assert computed in [len(held.prompt) - STEP * chunks for chunks in range(held.steps + 1)]
        r.cluster.prefillers[0] = restart(baton, r.cluster.prefiller, "prefill", **r.prefill)
        r.settle()


@pytest.mark.parametrize("who", ["prefiller", "decoder"])
def test_an_engine_stops_and_goes_on(baton, alone, tmp_path, who):
    r = Rounds(baton, alone, tmp_path, seed=2)
    for _ in range(rounds(30)):
        with r.held_request() as held:
            stopped, other, role = (
                (r.cluster.prefiller, held.decoder, "receiver") if who == "prefiller" else
                (held.decoder, r.cluster.prefiller, "sender"))
            stopped.pause()
            noticed_after(time.monotonic(), lambda: not any(
                each["role"] == role and each["state"] in ("receiving", "sending")
                for each in other.handoffs()), "the other side ended the handoff")
            if who == "prefiller":  # the decoder needs nobody
                assert held.answer().tokens == alone(held.prompt)
            stopped.resume()
            r.hold.lift()
            assert_right_or_clear(held.answer(), alone(held.prompt))
        r.settle()


def test_decoder_is_killed_before_its_first_token(baton, alone, tmp_path):
    r = Rounds(baton, alone, tmp_path, decoders=2, seed=3)
    for _ in range(rounds(30)):
        with r.held_request() as held:
            held.decoder.kill()
            r.hold.lift()
            answer = held.answer()
        # The other decoder took it over and fetched what the prefiller had computed by then: all.
        assert_handed_off(answer, alone(held.prompt), len(held.prompt))
        assert answer.handoff["attempt"] == 2
        r.cluster.prefiller.wait_idle()
        index = r.cluster.decoders.index(held.decoder)
        r.cluster.decoders[index] = restart(baton, held.decoder, "decode")
        r.settle()


def test_decoder_is_killed_after_its_first_token(baton, alone, tmp_path):
    r = Rounds(baton, alone, tmp_path, decoders=2, seed=4)
    broken = 0
    for tried in range(4 * rounds(30)):
        if broken == rounds(30):
            break
        prompt = prompt_of(r.random.randrange(65, 300), seed=r.random.random())
        began = time.monotonic()
        stream = r.cluster.router.api.stream_completion(prompt, max_tokens=ANSWER)
        assert stream.status == 200
        busy = next(d for d in r.cluster.decoders
                    if d.ready["listen"] in stream.headers["x-baton-decoder"])
        tokens, error = [], None
        for event in stream:
            error = event.get("error")
            for choice in event.get("choices", []):
                tokens += choice.get("token_ids") or []
            if tokens and busy.alive:
                busy.kill()
        assert time.monotonic() - began < ENDED_S
        expected = alone(prompt, ANSWER)
        assert tokens and tokens == expected[:len(tokens)]
        if len(tokens) < ANSWER:  # whoever reads a broken stream is told
            assert error["message"] and error["type"], error
            broken += 1
        r.cluster.prefiller.wait_idle()
        index = r.cluster.decoders.index(busy)
        r.cluster.decoders[index] = restart(baton, busy, "decode")
        r.settle()
    assert broken == rounds(30), f"only {broken} of {tried + 1} were still streaming"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_client_goes_away(baton, alone, tmp_path, how):
    r = Rounds(baton, alone, tmp_path, seed=5)
    for _ in range(rounds(30)):
        r.hold.set_again()
        prompt = prompt_of(r.random.randrange(130, 600), seed=r.random.random())
        connection = r.cluster.router.api.open("/v1/completions",
                                                   r.cluster.router.api.completion(prompt))
        r.hold.wait_held()
        wait_receiving(r.cluster.decoder)
        if how == "reset":  # with a TCP reset instead of an orderly end
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        # Both legs are cancelled: the decoder gives up what it was receiving.
        wait_for(lambda: not receiving(r.cluster.decoder), scaled(5), "the decoder let go")
        r.hold.lift()
        r.settle()
