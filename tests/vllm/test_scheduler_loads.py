"""A request that loads, hook by hook, as vLLM's scheduler calls them."""

import types

import pytest

from baton.vllm.orders import Orders
from scheduler_hooks import ID, Blocks, decode, news, plain, report, side, step


def test_a_request_that_ends_at_once_is_still_told_to_its_prefiller():
    s, request = side(), decode()
    s.on_new_request(request)
    delay, answer = s.request_finished(request, ([],))
    assert not delay and answer["baton"]["end"] == "failed"
    orders = s.build_connector_meta(step())
    assert [each.request_id for each in orders.opens] == ["d"]
    (close,) = orders.closes
    assert (close.request_id, close.load, close.report) == ("d", True, False) and close.why


def test_later_until_offered_then_blocks_then_loaded():
    s, request = side(), decode()
    s.on_new_request(request)
    assert s.get_num_new_matched_tokens(request, 0) == (None, False)
    (order,) = s.build_connector_meta(step()).opens
    assert (order.role, order.handoff, order.flow, order.budget_s) == ("decode", ID, "push", 30)
    assert s.get_num_new_matched_tokens(request, 0) == (None, False)
    s.update_connector_output(news(offered={"d": 300}))
    assert s.get_num_new_matched_tokens(request, 128) == (172, True)
    s.update_state_after_alloc(request, Blocks([7, 8, 9]), 172)
    (accept,) = s.build_connector_meta(step()).accepts
    assert (accept.blocks, accept.held_tokens, accept.tokens, accept.refused) == (
        [7, 8, 9], 128, 300, "")
    s.update_connector_output(news(reports={"d": report("committed", size=5)},
                                   received={"d"}))
    s.update_state_after_alloc(request, Blocks([7, 8, 9]), 0)
    s.build_connector_meta(step(new=[("d", [7, 8, 9], 299, 1)]))
    s.build_connector_meta(step(cached=[("d", None, 300, 1)]))
    delay, answer = s.request_finished(request, ([7, 8, 9],))
    assert not delay
    assert answer["baton"]["bytes"] == 5 and answer["baton"]["prompt_tokens_computed"] == 1
    assert s.build_connector_meta(step()) == Orders(idle=True)


def test_a_hit_in_part_is_what_is_offered():
    s, request = side(), decode()
    s.on_new_request(request)
    s.update_connector_output(news(offered={"d": 256}))
    assert s.get_num_new_matched_tokens(request, 128) == (128, True)
    assert s.get_num_new_matched_tokens(request, 256) == (0, False)  # the engine has found as much
    assert s.build_connector_meta(step()).closes[0].request_id == "d"


@pytest.mark.parametrize("computed, skip, said", [
    (299, False, "holds the prompt itself"), (0, True, "prompt_logprobs")])
def test_what_needs_no_transfer_waits_for_none(computed, skip, said):
    s, request = side(), decode(skip_reading_prefix_cache=skip)
    s.on_new_request(request)
    assert s.get_num_new_matched_tokens(request, computed) == (0, False)
    (close,) = s.build_connector_meta(step()).closes
    assert said in close.why and not close.report
    assert s.get_num_new_matched_tokens(request, computed) == (0, False)
    assert s.build_connector_meta(step()).closes == []


def test_a_failure_computes_where_the_policy_recomputes():
    s, request = side(recompute=True), decode()
    s.on_new_request(request)
    s.update_connector_output(news(failed={"d": "no contact"}))
    assert s.get_num_new_matched_tokens(request, 0) == (0, False)
    s.update_state_after_alloc(request, Blocks([1, 2, 3]), 0)
    assert s.build_connector_meta(step()).accepts == []
    assert s.request_finished(request, ([],))[1]["baton"]["why"] == "no contact"


def test_a_failure_is_the_engines_to_decide_where_the_policy_fails():
    s, request = side(recompute=False), decode()
    s.on_new_request(request)
    s.update_connector_output(news(failed={"d": "no contact"}))
    assert s.get_num_new_matched_tokens(request, 128) == (172, True)
    s.update_state_after_alloc(request, Blocks([1, 2, 3]), 172)
    (accept,) = s.build_connector_meta(step()).accepts
    assert (accept.refused, accept.held_tokens, accept.tokens) == ("no contact", 128, 300)


def test_no_answer_ends_at_the_budget(monkeypatch):
    s, request = side(), decode()
    s.on_new_request(request)
    assert s.get_num_new_matched_tokens(request, 0) == (None, False)
    monkeypatch.setattr("baton.vllm.scheduler_loads.time.monotonic", lambda: 1e12)
    assert s.get_num_new_matched_tokens(request, 0) == (0, False)
    assert s.build_connector_meta(step()).closes[0].request_id == "d"


@pytest.mark.parametrize("until, orders", [("waiting", 1), ("offered", 1), ("accepted", 1),
                                           ("failed", 1)])
def test_an_abort_closes_what_is_open(until, orders):
    s, request = side(), decode()
    s.on_new_request(request)
    if until in ("offered", "accepted"):
        s.update_connector_output(news(offered={"d": 300}))
    if until == "accepted":
        s.get_num_new_matched_tokens(request, 0)
        s.update_state_after_alloc(request, Blocks([1, 2, 3]), 300)
    if until == "failed":
        s.update_connector_output(news(failed={"d": "gone"}))
        s.get_num_new_matched_tokens(request, 0)
    request.status = types.SimpleNamespace(name="FINISHED_ABORTED")
    delay, _ = s.request_finished(request, ([],))
    assert not delay  # vLLM itself holds the blocks of a request that waits for remote KV
    closes = s.build_connector_meta(step()).closes
    assert len(closes) == orders and not any(close.report for close in closes)


def test_all_ranks_must_offer():
    s, request = side(ranks=2), decode(ranks=2)
    s.on_new_request(request)
    s.update_connector_output(news(offered={"d": 300}, rank=0))
    assert s.get_num_new_matched_tokens(request, 0) == (None, False)
    s.update_connector_output(news(offered={"d": 300}, rank=1))
    assert s.get_num_new_matched_tokens(request, 0) == (300, True)


def test_ranks_that_hold_different_parts_load_nothing():
    s, request = side(ranks=2), decode(ranks=2)
    s.on_new_request(request)
    s.build_connector_meta(step())
    s.update_connector_output(news(offered={"d": 300}, rank=0))
    s.update_connector_output(news(offered={"d": 256}, rank=1))
    assert s.get_num_new_matched_tokens(request, 0) == (0, False)
    (close,) = s.build_connector_meta(step()).closes
    assert close.load and "[256, 300]" in close.why


@pytest.mark.parametrize("recompute", [True, False])
def test_one_rank_that_fails_ends_the_load_of_all(recompute):
    s, request = side(ranks=2, recompute=recompute), decode(ranks=2)
    s.on_new_request(request)
    s.build_connector_meta(step())
    s.update_connector_output(news(offered={"d": 300}, rank=0))
    s.update_connector_output(news(failed={"d": "no peer"}, rank=1))
    assert s.get_num_new_matched_tokens(request, 0) == ((0, False) if recompute else (300, True))
    s.update_state_after_alloc(request, Blocks([1, 2, 3]), 0 if recompute else 300)
    orders = s.build_connector_meta(step())
    (close,) = orders.closes  # comes before the accept in a step
    assert close.load and close.why == "no peer"
    assert [accept.refused for accept in orders.accepts] == ([] if recompute else ["no peer"])


def test_an_answer_speaks_for_all_ranks():
    for ends, said in ((("committed", "committed"), "committed"),
                       (("committed", "failed"), "failed"), (("committed",), "failed")):
        s, request = side(ranks=2), decode(ranks=2)
        s.on_new_request(request)
        for rank, end in enumerate(ends):
            s.update_connector_output(news(reports={"d": report(end, share=0.9 - rank / 2)},
                                           rank=rank))
        _, answer = s.request_finished(request, [])
        assert answer["baton"]["end"] == said
        assert answer["baton"]["bytes"] == 10 * len(ends)
        assert answer["baton"]["share_of_bound"] == 0.9 - (len(ends) - 1) / 2


def test_tails_are_kept_if_asked_for():
    s, request = side(offload=True, tails=True), plain(tokens=100)
    s.on_new_request(request)
    opens = {order.role: order for order in s.build_connector_meta(step()).opens}
    assert len(opens["store"].tokens) == 100
    s.update_connector_output(news(offered={"o": 100}))
    assert s.get_num_new_matched_tokens(request, 64) == (36, True)
    s, request = side(offload=True, tails=True), plain(tokens=100)
    s.on_new_request(request)
    assert s.get_num_new_matched_tokens(request, 99) == (0, False)  # there is nothing left to load


@pytest.mark.parametrize("recompute", [True, False])
def test_finding_nothing_is_no_failure(recompute):
    s, request = side(offload=True, recompute=recompute), plain()
    s.on_new_request(request)
    s.update_connector_output(news(failed={"o": "not held"}))
    assert s.get_num_new_matched_tokens(request, 0) == (0, False)


def test_what_the_engine_has_cached_is_not_waited_for():
    s, request = side(offload=True), plain()
    s.on_new_request(request)
    assert s.get_num_new_matched_tokens(request, 512) == (0, False)
    closes = s.build_connector_meta(step()).closes
    assert [close.load for close in closes] == [True]
