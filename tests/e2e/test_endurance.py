"""Ten thousand handoffs: slots, descriptors and memory are as after the first thousand."""

import http.client
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from baton import TRANSPORT, SANITIZED, prompt_of, scaled
from client import split_address
from legs import Legs

TINY = "random:layers=2,heads=2,kv_heads=1,head_dim=8,hidden=16,ffn=32"
HANDOFFS = 600 if SANITIZED else 10_000
AT_ONCE = 4


class Client:
    """Both legs of one handoff after another, over connections that stay open."""

    def __init__(self, prefiller, decoder):
        self.engines = {"prefill": prefiller, "decode": decoder}
        self.connections = {}
        for role, engine in self.engines.items():
            host, port = split_address(engine.ready["listen"])
            self.connections[role] = http.client.HTTPConnection(host, port, timeout=scaled(60))

    def handoff(self, number):
        prompt = prompt_of(1 + number % 70, seed=number % 500)
        legs = Legs(*self.engines.values(), prompt, budget_ms=60_000, max_tokens=1)
        for role, connection in self.connections.items():
            connection.request("POST", "/v1/completions", json.dumps(legs.body(role)).encode(),
                               {"Content-Type": "application/json"})
        for connection in self.connections.values():
            response = connection.getresponse()
            answer = json.loads(response.read())
            assert response.status == 200, answer
        baton = answer["kv_transfer_params"]["baton"]
        assert (baton["end"], baton["transport"], baton["prompt_tokens_computed"]) == (
            "committed", TRANSPORT, 1), baton


def run(prefiller, decoder, first, last):
    def share(k):
        client = Client(prefiller, decoder)
        for number in range(first + k, last, AT_ONCE):
            client.handoff(number)
        for connection in client.connections.values():
            connection.close()
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        for done in [pool.submit(share, k) for k in range(AT_ONCE)]:
            done.result()


def usage(engine):
    slots = engine.wait_idle()["slots"]  # nothing held but what the host tier keeps
    return {"held": slots["held"], "descriptors": engine.open_descriptors(),
            "resident": engine.resident_bytes()}


# Retained, a chunk of 16 tokens takes 2 KiB of a tier that is full long before the first look.
@pytest.mark.parametrize("mode, handoffs, tier_chunks", [("transient", HANDOFFS, 512),
                                                         ("retain", HANDOFFS // 2, 32)])
def test_ten_thousand_handoffs(baton, mode, handoffs, tier_chunks):
    flags = {"model": TINY, "chunk_tokens": 16, "block_tokens": 16, "kv_blocks": 64,
             "host_tier": f"{2 * tier_chunks}KiB"}
    prefiller = baton.engine("prefill", **{mode: True}, **flags)
    decoder = baton.engine("decode", **flags)
    first = handoffs // 10
    run(prefiller, decoder, 0, first)
    before = [usage(engine) for engine in (prefiller, decoder)]
    run(prefiller, decoder, first, handoffs)
    after = [usage(engine) for engine in (prefiller, decoder)]
    for was, now in zip(before, after):
        assert now["descriptors"] <= was["descriptors"] + 2
        # Sanitizers keep what was freed for a while.
        assert now["resident"] < was["resident"] + (256 << 20 if SANITIZED else 8 << 20)
    held = [[each["held"] for each in look] for look in (before, after)]
    assert held == [[tier_chunks if mode == "retain" else 0, 0]] * 2
    evicted = prefiller.metrics().value("baton_tier_evictions_total")
    assert evicted > tier_chunks if mode == "retain" else evicted == 0
    assert decoder.metrics().value("baton_handoffs_total", end="committed") == handoffs
    assert decoder.metrics().value("baton_handoffs_total") == handoffs
