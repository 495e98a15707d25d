"""A worker's side over a node of its own, stepped as vLLM's runner does it."""

import time
import uuid

import torch

from baton.vllm import config, layout
from baton.vllm.orders import Accept, Open, Orders, Progress
from baton.vllm.worker_side import WorkerSide
from nodes import DEADLINE_S, fingerprint

LAYERS, BLOCKS, TOKENS, WORDS = 3, 40, 32, 64
# Of a prompt of 100 tokens, at the prefiller and at the decoder.
BLOCKS_P, BLOCKS_D = [4, 9, 2, 30], [11, 12, 0, 39]


class Rank:
    def __init__(self, kv, detected, identity=None, **options):
        self.kv = kv
        self.side = WorkerSide(config.parse({"chunk_tokens": 64, "host_tier_mib": 8, **options}))
        self.side.open(detected, identity or fingerprint(), kv)
        self.told = {"sent": [], "received": [], "bad": set(), "offered": {}, "failed": {},
                     "reports": {}, "released": []}

    @property
    def address(self):
        return self.side.node.address

    def step(self, orders=None, layers=True):
        """A step as the runner makes it; what the engine is told is remembered."""
        orders = orders or Orders()
        self.side.handle_preemptions(orders)
        self.side.begin_step(orders)
        for name in self.kv if layers else ():
            self.side.layer_ready(name)
        self.side.accept_loads(orders)
        self.side.end_step()
        sent, received = self.side.take_results()
        self.told["sent"] += sent
        self.told["received"] += received
        self.told["bad"] |= self.side.take_bad_blocks()
        news = self.side.take_news()
        if news is not None:
            for name in ("offered", "failed", "reports"):
                self.told[name].update(getattr(news.by_rank[0], name))
            self.told["released"] += news.by_rank[0].released

    def until(self, condition):
        """Empty steps, as vLLM makes them while something is awaited."""
        end = time.monotonic() + DEADLINE_S
        while not condition(self.told):
            assert time.monotonic() < end, self.told
            self.side.node.wait_notice(0.02)
            self.step()
        for _ in range(3):  # whatever is said twice is said soon after
            self.step()


def opened(request_id, role, handoff, peer=(), tokens=100, flow="push", budget_s=20.0):
    return Open(request_id, role, handoff, 1, flow, list(peer), budget_s, list(range(tokens)), "",
                "")


def detect(kv):
    return layout.detect(kv, dict.fromkeys(kv, layout.Packing("test", opaque=True)),
                         block_tokens=TOKENS, heads=1, blocks=BLOCKS)


def make_rank(fill, identity=None, **options):
    storage = torch.full((LAYERS, BLOCKS, WORDS), fill, dtype=torch.int64)
    kv = {f"layers.{i}": storage[i] for i in range(LAYERS)}
    return Rank(kv, detect(kv), identity, host_tier_mib=1, **options)


def both(ranks, there=0):
    """A prefiller and a decoder whose sessions are open."""
    p, d, handoff = ranks(fill=7), ranks(fill=there), str(uuid.uuid4())
    p.step(Orders(opens=[opened("p", "prefill", handoff, [d.address])]))
    d.step(Orders(opens=[opened("d", "decode", handoff, [p.address])]))
    return p, d


def compute(p, layers=True):
    p.step(Orders(progress=[Progress("p", 32, BLOCKS_P[:1], first=True)]), layers)
    p.step(Orders(progress=[Progress("p", 100, BLOCKS_P[1:], last=True)]), layers)


def accept(d, held=0):
    d.until(lambda told: "d" in told["offered"])
    d.step(Orders(accepts=[Accept("d", BLOCKS_D, held, 100)]))
