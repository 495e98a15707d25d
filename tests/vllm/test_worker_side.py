"""A rank's whole way over real nodes, in the order in which vLLM's runner calls it; and what of a
step that fails, or computes nothing, is told."""

import os
import time
import uuid

import pytest

from baton.vllm import worker_side
from baton.vllm.orders import Accept, Close, Orders, Progress
from ranks import BLOCKS_D, BLOCKS_P, WORDS, accept, both, compute, opened


@pytest.mark.parametrize("layers", [True, False], ids=["hooked", "hooks skipped"])
def test_loaded_and_sent_once_each(ranks, layers):
    p, d = both(ranks)
    compute(p, layers)
    accept(d)
    d.until(lambda told: told["received"])
    assert d.told["received"] == ["d"] and d.told["bad"] == set() and d.told["failed"] == {}
    assert d.told["offered"] == {"d": 100} and d.told["reports"]["d"]["end"] == "committed"
    for tensor in d.kv.values():
        assert (tensor[BLOCKS_D] == 7).all()
        assert (tensor == 7).sum() == len(BLOCKS_D) * WORDS
    assert p.told["sent"] == []  # the engine has not ended the request
    p.step(Orders(closes=[Close("p", report=True)]))
    p.until(lambda told: told["sent"])
    assert p.told["sent"] == ["p"]
    assert len(p.side._sends) == len(d.side._loads) == 0
    assert p.side.errors == d.side.errors == 0


def test_a_session_that_cannot_be_made(ranks):
    p = ranks()
    handoff = str(uuid.uuid4())
    p.step(Orders(opens=[opened("p", "prefill", "no id"), opened("d", "decode", "no id")]))
    assert "no id" in p.told["failed"]["d"] and "p" not in p.told["failed"]
    p.step(Orders(opens=[opened("q", "prefill", handoff, ["127.0.0.1:1"])],
                  progress=[Progress("p", 100, BLOCKS_P, first=True, last=True)],
                  closes=[Close("p", report=True)]))
    assert p.told["sent"] == ["p"]
    p.step(Orders(closes=[Close("q", "aborted")]))
    p.until(lambda told: len(p.side._sends) == 0)
    assert p.told["sent"] == ["p"] and p.side.errors == 0


def test_two_steps(ranks):
    p, d, handoff = ranks(fill=7), ranks(), str(uuid.uuid4())
    p.step(Orders(opens=[opened("p", "prefill", handoff)]))
    compute(p)
    p.step(Orders(closes=[Close("p", report=True)]))
    p.until(lambda told: told["sent"])
    d.step(Orders(opens=[opened("d", "decode", handoff, [p.address], flow="fetch")]))
    accept(d)
    d.until(lambda told: told["received"])
    assert (d.kv["layers.2"][BLOCKS_D] == 7).all() and d.told["bad"] == set()


class Waits:
    """A node, and how often it was waited for."""

    def __init__(self, node):
        self._node, self.waits = node, 0

    def wait_notice(self, timeout_s):
        self.waits += 1
        return self._node.wait_notice(timeout_s)

    def __getattr__(self, name):
        return getattr(self._node, name)


def test_the_nodes_threads_are_not_bound_as_the_engines_is(ranks):
    allowed = os.sched_getaffinity(0)
    one = {min(allowed)}
    before = set(os.listdir("/proc/self/task"))
    os.sched_setaffinity(0, one)
    try:
        ranks()
        assert os.sched_getaffinity(0) == one
    finally:
        os.sched_setaffinity(0, allowed)
    made = set(os.listdir("/proc/self/task")) - before
    assert made and all(os.sched_getaffinity(int(thread)) >= allowed for thread in made)


def test_a_step_that_computes_nothing_lasts_until_there_is_news(ranks, monkeypatch):
    monkeypatch.setattr(worker_side, "IDLE_STEP_S", 30.0)
    p, d, handoff = ranks(fill=7), ranks(), str(uuid.uuid4())
    node = Waits(d.side.node)
    monkeypatch.setattr(d.side, "node", node)
    began = time.monotonic()
    d.step(Orders(idle=True))  # there is nobody to wait for
    d.step(Orders(opens=[opened("d", "decode", handoff)]))  # this one computes
    assert node.waits == 0
    p.step(Orders(opens=[opened("p", "prefill", handoff, [node.address])]))
    compute(p)
    while "d" not in d.told["offered"]:
        d.step(Orders(idle=True))
    assert node.waits > 0 and time.monotonic() - began < 20


def test_what_is_dropped_is_found_by_nobody(ranks):
    o, handoff = ranks(fill=7), str(uuid.uuid4())
    o.step(Orders(opens=[opened("first", "store", handoff, tokens=64)]))
    o.step(Orders(progress=[Progress("first", 64, BLOCKS_P[:2], first=True, last=True)]))
    o.until(lambda told: "first" in told["released"])
    # A look-up of the same step comes after it.
    o.step(Orders(drop=True, opens=[opened("again", "reload", str(uuid.uuid4()), flow="fetch")]))
    o.until(lambda told: "again" in told["failed"])
    assert o.told["offered"] == {} and o.side.errors == 0


def test_what_cannot_be_dropped_is_an_error_in_the_log(ranks):
    o = ranks()
    o.side.node.close()
    o.step(Orders(drop=True), layers=False)
    assert o.side.errors == 1


def test_what_breaks_in_a_hook_costs_that_request_alone(ranks):
    p, d = both(ranks)
    compute(p)
    d.until(lambda told: "d" in told["offered"])
    broken = Accept("d", [-1, 12, 0, 39], 0, 100)  # no block has such a number
    d.step(Orders(accepts=[broken, Accept("e", BLOCKS_D, 0, 100, "refused")]))
    assert d.side.errors == 1 and "e" in d.told["received"]
    d.until(lambda told: "d" in told["received"])
    assert sorted(d.told["received"]) == ["d", "e"] and -1 in d.told["bad"]
    d.step(None, layers=False)
    d.side.layer_ready("no such layer")
    d.side.begin_step(None)
    assert d.side.errors == 2


def test_closing_ends_what_is_live(ranks):
    p, d = both(ranks)
    p.step(Orders(progress=[Progress("p", 64, BLOCKS_P[:2], first=True)]))
    accept(d)
    d.side.close()
    assert d.side.node.closed and d.side.errors == 0
    p.step(Orders(closes=[Close("p", report=True)]))
    p.until(lambda told: told["sent"])
