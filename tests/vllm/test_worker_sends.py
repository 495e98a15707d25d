"""What a rank sends, over real nodes, in the order in which vLLM's runner calls it: when its blocks
are the engine's again, and that this is said once."""

import uuid

import pytest

from baton.vllm.orders import Accept, Close, Orders, Progress
from ranks import BLOCKS_D, BLOCKS_P, both, compute, opened


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


def test_a_preempted_prefill_is_released_when_the_hook_returns(ranks):
    p, d = both(ranks)
    p.step(Orders(progress=[Progress("p", 64, BLOCKS_P[:2], first=True)]))
    session = p.side._sends.records["p"].session
    p.side.handle_preemptions(Orders(preempted=["p"]))
    assert session.released
    del session
    p.step(Orders(closes=[Close("p")]))  # the request ends later, its blocks its own
    p.step()
    assert p.told["sent"] == [] and len(p.side._sends) == 0
    d.until(lambda told: "d" in told["failed"] or told["received"])


def test_a_finished_prefill_that_is_preempted_is_released_too(ranks):
    p, d, handoff = ranks(fill=7, mode="transient"), ranks(), str(uuid.uuid4())
    p.step(Orders(opens=[opened("p", "prefill", handoff, [d.address])]))
    d.step(Orders(opens=[opened("d", "decode", handoff)]))
    compute(p)
    d.until(lambda told: "d" in told["offered"])
    session = p.side._sends.records["p"].session
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
