"""What a rank loads, over real nodes, in the order in which vLLM's runner calls it: what the engine
is told, when, and how often."""

import uuid

import pytest

from baton.vllm.orders import Accept, Close, Orders, Progress
from http_of import post
from nodes import fingerprint
from ranks import BLOCKS_D, BLOCKS_P, WORDS, accept, both, compute, opened


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


def test_what_is_failed_from_outside_with_blocks_given_is_bad(ranks):
    """As the router says it to the node of one rank."""
    p, d, handoff = ranks(fill=7), ranks(node_http="127.0.0.1:0"), str(uuid.uuid4())
    p.step(Orders(opens=[opened("p", "prefill", handoff, [d.address])]))
    d.step(Orders(opens=[opened("d", "decode", handoff, [p.address])]))
    p.step(Orders(progress=[Progress("p", 32, BLOCKS_P[:1], first=True)]))
    accept(d)
    post(f"http://{d.side.node.http_address}/handoffs/{handoff}/fail", {"reason": "one says so"})
    d.until(lambda told: told["received"])
    assert d.told["received"] == ["d"] and d.told["bad"] == set(BLOCKS_D)
    assert "one says so" in d.told["reports"]["d"]["why"]
    p.step(Orders(closes=[Close("p", report=True)]))
    p.until(lambda told: told["sent"])


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
    d.until(lambda told: len(d.side._loads) == 0)
    assert d.told["received"] == [] and d.told["bad"] == set()


def test_an_abort_while_loading_is_reported_once_when_nothing_writes(ranks):
    p, d = both(ranks)
    p.step(Orders(progress=[Progress("p", 64, BLOCKS_P[:2], first=True)]))
    accept(d)
    d.step(Orders(closes=[Close("d", "the client has left", load=True)]))
    d.until(lambda told: told["received"])
    assert d.told["received"] == ["d"] and len(d.side._loads) == 0
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


def test_no_contact_is_a_failure_before_any_block(ranks):
    d = ranks(first_contact_ms=50)
    d.step(Orders(opens=[opened("d", "decode", str(uuid.uuid4()), ["127.0.0.1:1"])]))
    d.until(lambda told: "d" in told["failed"])
    assert d.told["received"] == [] and len(d.side._loads) == 0


def test_a_prompt_is_kept_and_loaded_back(ranks):
    """As an instance that offloads does it."""
    o = ranks(fill=7)
    o.step(Orders(opens=[opened("first", "reload", str(uuid.uuid4()), flow="fetch"),
                         opened("first", "store", str(uuid.uuid4()), tokens=64)]))
    o.until(lambda told: "first" in told["failed"])  # nothing is there yet
    o.step(Orders(progress=[Progress("first", 64, BLOCKS_P[:2], first=True, last=True)]))
    o.until(lambda told: "first" in told["released"])
    o.step(Orders(closes=[Close("first")]))
    assert o.told["sent"] == [] and len(o.side._sends) == 0
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


def test_a_fingerprint_that_differs_is_refused(ranks):
    p, d, handoff = ranks(fill=7), ranks(identity=fingerprint("another model")), str(uuid.uuid4())
    p.step(Orders(opens=[opened("p", "prefill", handoff)]))
    compute(p)
    d.step(Orders(opens=[opened("d", "decode", handoff, [p.address], flow="fetch")]))
    d.until(lambda told: "d" in told["failed"])
    assert "another model" in d.told["failed"]["d"] and "'test'" in d.told["failed"]["d"]
