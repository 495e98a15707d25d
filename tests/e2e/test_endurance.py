"""Ten thousand handoffs: slots, descriptors and memory are as after the first thousand."""

import http.client
import json
import uuid
from concurrent.futures import ThreadPoolExecutor

from baton import SANITIZED, prompt_of, scaled
from client import split_address

TINY = "random:layers=2,heads=2,kv_heads=1,head_dim=8,hidden=16,ffn=32"
HANDOFFS = 600 if SANITIZED else 10_000
FIRST = HANDOFFS // 10
AT_ONCE = 4


class Client:
    """Both legs of one handoff after another, over connections that stay open."""

    def __init__(self, prefiller, decoder):
        self.connections = {}
        self.engines = {"prefill": prefiller, "decode": decoder}
        for role, engine in self.engines.items():
            host, port = split_address(engine.ready["listen"])
            self.connections[role] = http.client.HTTPConnection(host, port, timeout=scaled(60))
        self.model = prefiller.api.model

    def handoff(self, number):
        prompt = prompt_of(1 + number % 70, seed=number % 500)
        handoff = str(uuid.uuid4())
        for role, peer in (("prefill", "decode"), ("decode", "prefill")):
            params = {"handoff": handoff, "attempt": 1, "role": role, "flow": "push",
                      "peer": [self.engines[peer].ready["node"]], "budget_ms": 60_000}
            body = {"model": self.model, "prompt": prompt, "max_tokens": 1, "temperature": 0,
                    "kv_transfer_params": {"baton": params}}
            self.connections[role].request("POST", "/v1/completions", json.dumps(body).encode(),
                                           {"Content-Type": "application/json"})
        for role in ("prefill", "decode"):
            response = self.connections[role].getresponse()
            answer = json.loads(response.read())
            assert response.status == 200, answer
        baton = answer["kv_transfer_params"]["baton"]
        assert (baton["end"], baton["prompt_tokens_computed"]) == ("committed", 1), baton


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
    engine.wait_idle()
    slots = engine.debug()["slots"]
    return {"held": slots["held"], "quarantined": slots["quarantined"],
            "descriptors": engine.open_descriptors(), "resident": engine.resident_bytes()}


def test_ten_thousand_handoffs(baton):
    flags = {"model": TINY, "chunk_tokens": 16, "block_tokens": 16, "kv_blocks": 64,
             "host_tier": "1MiB"}
    prefiller = baton.engine("prefill", transient=True, **flags)
    decoder = baton.engine("decode", **flags)
    run(prefiller, decoder, 0, FIRST)
    before = [usage(engine) for engine in (prefiller, decoder)]
    run(prefiller, decoder, FIRST, HANDOFFS)
    after = [usage(engine) for engine in (prefiller, decoder)]
    for was, now in zip(before, after):
        assert now["held"] == was["held"] == 0
        assert now["quarantined"] == 0
        assert now["descriptors"] <= was["descriptors"] + 2
        # Sanitizers keep what was freed for a while.
        assert now["resident"] < was["resident"] + (256 << 20 if SANITIZED else 8 << 20)
    assert decoder.metrics().value("baton_handoffs_total", end="committed") == HANDOFFS
    assert decoder.metrics().value("baton_handoffs_total") == HANDOFFS
