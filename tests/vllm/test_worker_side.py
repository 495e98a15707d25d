"""The worker's side over real nodes, in the order in which vLLM's runner calls it: what the engine is
told, when, and how often."""

import os
import time
import uuid

import pytest
import torch

from baton.vllm import layout, worker_side
from baton.vllm.orders import Accept, Close, Orders, Progress
from nodes import fingerprint
from ranks import Rank, opened

LAYERS, BLOCKS, TOKENS, WORDS = 3, 40, 32, 64


def detect(kv):
    return layout.detect(kv, dict.fromkeys(kv, layout.Packing("test", opaque=True)),
                         block_tokens=TOKENS, heads=1, blocks=BLOCKS)


def make_rank(fill, identity=None, **options):
    storage = torch.full((LAYERS, BLOCKS, WORDS), fill, dtype=torch.int64)
    kv = {f"layers.{i}": storage[i] for i in range(LAYERS)}
    return Rank(kv, detect(kv), identity, host_tier_mib=1, **options)


@pytest.fixture
def ranks():
    made = []

    def make(fill=0, **options):
        made.append(make_rank(fill, **options))
        return made[-1]

    yield make
    for rank in made:
        rank.side.close()
        assert rank.side.node.closed


def both(ranks, there=0):
    """A prefiller and a decoder whose sessions are open."""
    p, d, handoff = ranks(fill=7), ranks(fill=there), str(uuid.uuid4())
    p.step(Orders(opens=[opened("p", "prefill", handoff, [d.address])]))
    d.step(Orders(opens=[opened("d", "decode", handoff, [p.address])]))
    return p, d


BLOCKS_P, BLOCKS_D = [4, 9, 2, 30], [11, 12, 0, 39]


def compute(p, layers=True):
    p.step(Orders(progress=[Progress("p", 32, BLOCKS_P[:1], first=True)]), layers)
    p.step(Orders(progress=[Progress("p", 100, BLOCKS_P[1:], last=True)]), layers)


def accept(d, held=0):
    d.until(lambda told: "d" in told["offered"])
    d.step(Orders(accepts=[Accept("d", BLOCKS_D, held, 100)]))


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
    assert not p.side._sends and not p.side._by_tag and not d.side._loads and not d.side._by_tag
    assert p.side.errors == d.side.errors == 0


def test_transient_blocks_are_held_until_they_are_received(ranks):
    p, d, handoff = ranks(fill=7, mode="transient"), ranks(), str(uuid.uuid4())
    p.step(Orders(opens=[opened("p", "prefill", handoff, [d.address])]))
    compute(p)
    p.step(Orders(closes=[Close("p", report=True)]))
    d.step(Orders(opens=[opened("d", "decode", handoff, [p.address])]))
    d.until(lambda told: "d" in told["offered"])
    p.step()
    assert p.told["sent"] == []
    d.step(Orders(accepts=[Accept("d", BLOCKS_D, 0, 100)]))
    d.until(lambda told: told["received"])
    p.until(lambda told: told["sent"])
    assert p.told["sent"] == ["p"]


def test_a_prefiller_that_gives_up_leaves_bad_blocks(ranks):
    p, d = both(ranks, there=5)
    p.step(Orders(progress=[Progress("p", 64, BLOCKS_P[:2], first=True)]))
    accept(d)
    p.step(Orders(closes=[Close("p", "aborted", report=True)]))
    d.until(lambda told: told["received"])
    p.until(lambda told: told["sent"])
    assert (p.told["sent"], d.told["received"]) == (["p"], ["d"])
    # Whole chunks that had arrived by then may count; the rest may not.
    assert {0, 39} <= d.told["bad"] <= set(BLOCKS_D)
    for tensor in d.kv.values():  # what was poison, or came, is numbers now
        assert (tensor[sorted(d.told["bad"])] == 0).all()
        assert (tensor[1] == 5).all()


def test_what_the_engine_holds_is_never_bad(ranks):
    p, d = both(ranks)
    p.step(Orders(progress=[Progress("p", 32, BLOCKS_P[:1], first=True)]))
    accept(d, held=32)
    p.step(Orders(closes=[Close("p", "aborted", report=True)]))
    d.until(lambda told: told["received"])
    assert d.told["bad"] == set(BLOCKS_D[1:])
    assert (d.kv["layers.0"][BLOCKS_D[0]] == 0).all()


def test_an_abort_before_blocks_is_reported_as_no_receive(ranks):
    p, d = both(ranks)
    d.step(Orders(closes=[Close("d", "the client has left", load=True)]))
    d.until(lambda told: not d.side._loads)
    assert d.told["received"] == [] and d.told["bad"] == set()


def test_an_abort_while_loading_is_reported_once_when_nothing_writes(ranks):
    p, d = both(ranks)
    p.step(Orders(progress=[Progress("p", 64, BLOCKS_P[:2], first=True)]))
    accept(d)
    d.step(Orders(closes=[Close("d", "the client has left", load=True)]))
    d.until(lambda told: told["received"])
    assert d.told["received"] == ["d"] and not d.side._loads
    # The prefiller hears of it, and its engine is free, though the prompt was never finished.
    p.step(Orders(closes=[Close("p", report=True)]))
    p.until(lambda told: told["sent"])


def test_an_abort_in_the_step_that_gives_blocks(ranks):
    p, d = both(ranks)
    compute(p)
    d.until(lambda told: "d" in told["offered"])
    d.step(Orders(accepts=[Accept("d", BLOCKS_D, 0, 100)], closes=[Close("d", "left", load=True)]))
    d.until(lambda told: told["received"])
    assert d.told["received"] == ["d"]


def test_an_abort_after_the_load_says_nothing_more(ranks):
    p, d = both(ranks)
    compute(p)
    accept(d)
    d.until(lambda told: told["received"])
    d.step(Orders(closes=[Close("d", "left", load=True)]))
    d.step()
    assert d.told["received"] == ["d"]


@pytest.mark.parametrize("refused", ["", "no contact"])
def test_blocks_for_what_has_ended_are_bad_at_once(ranks, refused):
    d = ranks()
    d.step(Orders(accepts=[Accept("d", BLOCKS_D, 32, 100, refused)]))
    assert d.told["received"] == ["d"] and d.told["bad"] == set(BLOCKS_D[1:])


def test_a_preempted_prefill_is_released_when_the_hook_returns(ranks):
    p, d = both(ranks)
    p.step(Orders(progress=[Progress("p", 64, BLOCKS_P[:2], first=True)]))
    session = p.side._sends["p"].session
    p.side.handle_preemptions(Orders(preempted=["p"]))
    assert session.released
    del session
    p.step(Orders(closes=[Close("p")]))  # the request ends later, its blocks its own
    p.step()
    assert p.told["sent"] == [] and not p.side._sends
    d.until(lambda told: "d" in told["failed"] or told["received"])


def test_a_finished_prefill_that_is_preempted_is_released_too(ranks):
    p, d, handoff = ranks(fill=7, mode="transient"), ranks(), str(uuid.uuid4())
    p.step(Orders(opens=[opened("p", "prefill", handoff, [d.address])]))
    d.step(Orders(opens=[opened("d", "decode", handoff)]))
    compute(p)
    d.until(lambda told: "d" in told["offered"])
    session = p.side._sends["p"].session
    assert not session.released  # the bytes are nowhere else, and nobody has accepted them
    p.side.handle_preemptions(Orders(preempted=["p"]))
    assert session.released and p.side.errors == 0
    del session
    d.until(lambda told: "d" in told["failed"])
    assert "preempted" in d.told["failed"]["d"]


def test_a_step_that_fails_sends_nothing(ranks):
    p, d = both(ranks)
    orders = Orders(progress=[Progress("p", 100, BLOCKS_P, first=True, last=True)])
    p.side.begin_step(orders)
    p.side.layer_ready("layers.0")
    with pytest.raises(RuntimeError):
        try:
            raise RuntimeError("the model")
        finally:  # as vLLM does
            p.side.end_step()
    d.until(lambda told: "d" in told["failed"])
    assert "step failed" in d.told["failed"]["d"]
    p.step(Orders(closes=[Close("p", report=True)]))
    p.until(lambda told: told["sent"])


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
    p.until(lambda told: not p.side._sends)
    assert p.told["sent"] == ["p"] and p.side.errors == 0


def test_no_contact_is_a_failure_before_any_block(ranks):
    d = ranks(first_contact_ms=50)
    d.step(Orders(opens=[opened("d", "decode", str(uuid.uuid4()), ["127.0.0.1:1"])]))
    d.until(lambda told: "d" in told["failed"])
    assert d.told["received"] == [] and not d.side._loads


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


def test_a_prompt_is_kept_and_loaded_back(ranks):
    """As an instance that offloads does it."""
    o = ranks(fill=7)
    o.step(Orders(opens=[opened("first", "reload", str(uuid.uuid4()), flow="fetch"),
                         opened("first", "store", str(uuid.uuid4()), tokens=64)]))
    o.until(lambda told: "first" in told["failed"])  # nothing is there yet
    o.step(Orders(progress=[Progress("first", 64, BLOCKS_P[:2], first=True, last=True)]))
    o.until(lambda told: "first" in told["released"])
    o.step(Orders(closes=[Close("first")]))
    assert o.told["sent"] == [] and not o.side._sends
    for tensor in o.kv.values():
        tensor.fill_(0)  # vLLM has given the blocks to others
    o.step(Orders(opens=[opened("again", "reload", str(uuid.uuid4()), flow="fetch")]))
    o.until(lambda told: "again" in told["offered"])
    assert o.told["offered"] == {"again": 64}
    o.step(Orders(accepts=[Accept("again", BLOCKS_D[:2], 0, 64)]))
    o.until(lambda told: told["received"])
    assert o.told["received"] == ["again"] and o.told["bad"] == set()
    for tensor in o.kv.values():
        assert (tensor[BLOCKS_D[:2]] == 7).all() and (tensor == 7).sum() == 2 * WORDS
    counted = o.side.take_stats().data
    assert (counted["reloads"], counted["loads"], counted["loads_failed"]) == (1, 0, 0)


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


def test_a_fingerprint_that_differs_is_refused(ranks):
    p, d, handoff = ranks(fill=7), ranks(identity=fingerprint("another model")), str(uuid.uuid4())
    p.step(Orders(opens=[opened("p", "prefill", handoff)]))
    compute(p)
    d.step(Orders(opens=[opened("d", "decode", handoff, [p.address], flow="fetch")]))
    d.until(lambda told: "d" in told["failed"])
    assert "another model" in d.told["failed"]["d"] and "'test'" in d.told["failed"]["d"]


def test_closing_ends_what_is_live(ranks):
    p, d = both(ranks)
    p.step(Orders(progress=[Progress("p", 64, BLOCKS_P[:2], first=True)]))
    accept(d)
    d.side.close()
    assert d.side.node.closed and d.side.errors == 0
    p.step(Orders(closes=[Close("p", report=True)]))
    p.until(lambda told: told["sent"])
