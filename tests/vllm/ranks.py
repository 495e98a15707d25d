"""A worker's side over a node of its own, stepped as vLLM's runner does it."""

import time

from baton.vllm import config
from baton.vllm.orders import Open, Orders
from baton.vllm.worker_side import WorkerSide
from nodes import DEADLINE_S, fingerprint


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
        results = self.side.take_results()
        self.told["sent"] += results.sent
        self.told["received"] += results.received
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
