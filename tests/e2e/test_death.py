"""Engines that die, stop, or lose their client between OFFER and COMMIT: right tokens or a clear
error within the budget, and nothing stays behind. A round counts only if the decoder was receiving
when it struck."""

import random
import socket
import struct
import time

import pytest

from baton import LAYERS, PRESET, prompt_of, rounds, scaled, wait_for
from faults import (Hold, assert_right_or_clear, in_background, receiving, restart,
                    wait_handed_off, wait_receiving)

NOTICED_S = 1.0  # 4 missed heartbeats of 200 ms, and what looking costs
BUDGET_MS = 20_000
STEP = 64  # tokens a prefill step


class Rounds:
    """A cluster whose prefiller can be held inside a prefill, and requests to strike in."""

    def __init__(self, baton, alone, tmp_path, decoders=1, seed=0):
        self.baton = baton
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

    def held_request(self, send):
        """Sends a request, lets some steps pass and returns (its future's context, prompt, the
        decoder that is receiving)."""
        self.hold.set_again()
        prompt = prompt_of(self.random.randrange(130, 600), seed=self.random.random())
        background = in_background(lambda: send(prompt))
        future = background.__enter__()
        for _ in range(self.random.randrange(0, 2)):
            self.hold.release()
        self.hold.wait_held()
        decoder = wait_for(lambda: next((d for d in self.cluster.decoders if receiving(d)), None),
                           scaled(10), "a decoder is receiving")
        wait_receiving(decoder)
        return background, future, prompt, decoder

    def complete(self, prompt):
        return self.cluster.complete(prompt)

    def check(self, answer, prompt):
        assert_right_or_clear(answer, self.alone(prompt))

    def settle(self):
        wait_for(lambda: self.cluster.router.metrics().value("baton_router_instance_healthy")
                 == len(self.cluster.engines), scaled(10), "the router has all of them back")
        self.cluster.wait_idle()
        prompt = prompt_of(20, seed=self.random.random())
        wait_handed_off(self.cluster, prompt, self.alone(prompt))
        # A prefiller that had the chunks already computes on after its decoder has answered.
        self.cluster.wait_idle()


def test_prefiller_is_killed(baton, alone, tmp_path):
    r = Rounds(baton, alone, tmp_path, seed=1)
    for _ in range(rounds(30)):
        background, future, prompt, decoder = r.held_request(r.complete)
        began = time.monotonic()
        r.cluster.prefiller.kill()
        wait_for(lambda: not receiving(decoder), scaled(5), "the decoder noticed")
        noticed = time.monotonic() - began
        r.hold.lift()
        answer = future.result()
        background.__exit__(None, None, None)
        assert answer.tokens == alone(prompt)  # nothing stands in the way of computing it
        assert answer.handoff["prompt_tokens_computed"] >= 1
        assert answer.handoff["end"] == "failed"
        assert noticed < scaled(NOTICED_S)
        r.cluster.prefillers[0] = restart(baton, r.cluster.prefiller, "prefill", **r.prefill)
        r.settle()


@pytest.mark.parametrize("who", ["prefiller", "decoder"])
def test_an_engine_stops_and_goes_on(baton, alone, tmp_path, who):
    r = Rounds(baton, alone, tmp_path, seed=2)
    for _ in range(rounds(30)):
        background, future, prompt, decoder = r.held_request(r.complete)
        stopped, other = ((r.cluster.prefiller, decoder) if who == "prefiller" else
                          (decoder, r.cluster.prefiller))
        stopped.pause()
        began = time.monotonic()
        role = "receiver" if who == "prefiller" else "sender"
        wait_for(lambda: not any(each["role"] == role and each["state"] in ("receiving", "sending")
                                 for each in other.handoffs()),
                 scaled(5), "the other side ended the handoff")
        noticed = time.monotonic() - began
        if who == "prefiller":  # the decoder needs nobody
            answer = future.result()
            assert answer.tokens == alone(prompt)
        stopped.resume()
        r.hold.lift()
        answer = future.result()
        background.__exit__(None, None, None)
        r.check(answer, prompt)
        if PRESET == "release":
            assert noticed < NOTICED_S + 0.5  # a busy machine looks late
        r.settle()


def test_decoder_is_killed_before_its_first_token(baton, alone, tmp_path):
    r = Rounds(baton, alone, tmp_path, decoders=2, seed=3)
    for _ in range(rounds(30)):
        background, future, prompt, decoder = r.held_request(r.complete)
        decoder.kill()
        r.hold.lift()
        answer = future.result()
        background.__exit__(None, None, None)
        # The other decoder took it over; it fetched what the prefiller held by then.
        assert answer.tokens == alone(prompt), answer
        assert answer.handoff["attempt"] == 2
        r.cluster.prefiller.wait_idle()
        index = r.cluster.decoders.index(decoder)
        r.cluster.decoders[index] = restart(baton, decoder, "decode")
        r.settle()


def test_decoder_is_killed_after_its_first_token(baton, alone, tmp_path):
    r = Rounds(baton, alone, tmp_path, decoders=2, seed=4)
    for _ in range(rounds(30)):
        prompt = prompt_of(r.random.randrange(65, 300), seed=r.random.random())
        stream = r.cluster.router.api.stream_completion(prompt, max_tokens=400)
        assert stream.status == 200
        next(stream)  # its first token
        busy = next(d for d in r.cluster.decoders
                    if d.ready["listen"] in stream.headers["x-baton-decoder"])
        busy.kill()
        answer = stream.read()
        assert_right_or_clear(answer, alone(prompt, 400)) if answer.status == 200 else None
        if answer.status != 200:
            assert answer.json["error"]["message"]
        r.cluster.prefiller.wait_idle()
        index = r.cluster.decoders.index(busy)
        r.cluster.decoders[index] = restart(baton, busy, "decode")
        r.settle()


@pytest.mark.parametrize("how", ["close", "reset"])
def test_client_goes_away(baton, alone, tmp_path, how):
    r = Rounds(baton, alone, tmp_path, seed=5)
    body = lambda prompt: r.cluster.router.api.completion(prompt)
    for _ in range(rounds(30)):
        r.hold.set_again()
        prompt = prompt_of(r.random.randrange(130, 600), seed=r.random.random())
        connection = r.cluster.router.api.open("/v1/completions", body(prompt))
        r.hold.wait_held()
        wait_receiving(r.cluster.decoder)
        if how == "reset":  # with a TCP reset instead of an orderly end
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        # Both legs are cancelled: the decoder gives up what it was receiving.
        wait_for(lambda: not receiving(r.cluster.decoder), scaled(5), "the decoder let go")
        r.hold.lift()
        r.settle()
