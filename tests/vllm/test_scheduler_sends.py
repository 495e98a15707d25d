"""A request that sends, hook by hook, as vLLM's scheduler calls them."""

import types

from baton.vllm.orders import Orders
from scheduler_hooks import news, plain, prefill, side, step


def test_prefill_in_chunks():
    s, request = side(), prefill(tokens=300)
    s.on_new_request(request)
    orders = s.build_connector_meta(step())  # it waits in the engine's queue
    assert [order.role for order in orders.opens] == ["prefill"] and orders.progress == []
    (one,) = s.build_connector_meta(step(new=[("p", [4], 0, 128)])).progress
    assert (one.tokens, one.new_blocks, one.first, one.last) == (128, [4], True, False)
    (two,) = s.build_connector_meta(step(cached=[("p", [5, 6], 128, 172)])).progress
    assert (two.tokens, two.new_blocks, two.first, two.last) == (300, [5, 6], False, True)
    # Tokens of its own are nobody's.
    assert s.build_connector_meta(step(cached=[("p", [7], 300, 1)])).progress == []
    assert s.request_finished(request, ([4, 5, 6, 7],)) == (True, None)
    (close,) = s.build_connector_meta(step()).closes
    assert close.report and close.why == ""


def test_what_the_prefillers_engine_has_cached_is_ready_with_its_first_step():
    s, request = side(), prefill()
    s.on_new_request(request)
    (order,) = s.build_connector_meta(step(new=[("p", [4, 5, 6], 256, 44)])).progress
    assert (order.tokens, order.first, order.last) == (300, True, True)


def test_two_steps():
    s, request = side(), prefill(params={"do_remote_decode": True})
    s.addresses = ["127.0.0.1:9001"]
    s.on_new_request(request)
    (order,) = s.build_connector_meta(step(new=[("p", [1, 2, 3], 0, 300)])).opens
    assert order.peer == []
    delay, answer = s.request_finished(request, ([1, 2, 3],))
    assert delay and answer["baton"]["handoff"] == order.handoff
    assert (answer["remote_host"], answer["remote_port"]) == ("127.0.0.1", 9001)
    assert answer["remote_block_ids"] == [[1, 2, 3]]


def test_two_steps_need_retained_chunks():
    s, request = side(mode="transient"), prefill(params={"do_remote_decode": True})
    s.addresses = ["127.0.0.1:9001"]
    s.on_new_request(request)
    assert s.build_connector_meta(step(new=[("p", [1, 2, 3], 0, 300)])) == Orders()
    delay, answer = s.request_finished(request, ([1, 2, 3],))
    assert not delay and answer["baton"]["end"] == "refused"
    assert "transient" in answer["baton"]["why"]


def test_a_prefill_that_is_aborted_holds_its_blocks_until_it_is_fenced_off():
    s, request = side(), prefill()
    s.on_new_request(request)
    s.build_connector_meta(step(new=[("p", [4], 0, 128)]))
    request.status = types.SimpleNamespace(name="FINISHED_ABORTED")
    assert s.request_finished(request, ([4],)) == (True, None)
    (close,) = s.build_connector_meta(step()).closes
    assert close.report and close.why


def test_a_prefill_that_never_began_holds_nothing():
    s, request = side(), prefill()
    s.on_new_request(request)
    request.status = types.SimpleNamespace(name="FINISHED_ABORTED")
    assert s.request_finished(request, ([],)) == (False, None)
    (close,) = s.build_connector_meta(step()).closes
    assert not close.report and close.why


def test_a_preempted_prefill_is_fenced_and_then_the_engines_own():
    s, request = side(), prefill()
    s.on_new_request(request)
    s.build_connector_meta(step(new=[("p", [4], 0, 128)]))
    assert s.build_connector_meta(step(preempted=["p"])).preempted == ["p"]
    assert s.build_connector_meta(step(cached=[("p", [9, 10, 11], 0, 300)])).progress == []
    assert s.request_finished(request, ([9, 10, 11],)) == (False, None)


def test_a_prefill_whose_blocks_are_free_already_ends_at_once():
    s, request = side(), prefill()
    s.on_new_request(request)
    s.build_connector_meta(step(new=[("p", [4, 5, 6], 0, 300)]))
    s.update_connector_output(news(released=["p"]))
    assert s.request_finished(request, ([4, 5, 6],)) == (False, None)
    (close,) = s.build_connector_meta(step()).closes
    assert not close.report and not close.load and close.why == ""


def test_kept_in_chunks_the_table_grows_no_further_than_them():
    s, request = side(offload=True), plain(tokens=300)
    s.on_new_request(request)
    s.update_connector_output(news(failed={"o": "not held"}))
    assert s.get_num_new_matched_tokens(request, 0) == (0, False)
    (one,) = s.build_connector_meta(step(new=[("o", [1], 0, 128)])).progress
    (two,) = s.build_connector_meta(step(cached=[("o", [2, 3], 128, 172)])).progress
    assert (one.new_blocks, two.new_blocks, two.tokens, two.last) == ([1], [2], 256, True)
    assert s.build_connector_meta(step(cached=[("o", None, 300, 1)])).progress == []
    assert s.request_finished(request, ([1, 2, 3],)) == (True, None)


def test_an_answer_that_cannot_be_made_leaves_no_order(monkeypatch):
    s, request = side(), prefill(params={"do_remote_decode": True})
    s.on_new_request(request)
    s.build_connector_meta(step(new=[("p", [4, 5, 6], 0, 300)]))
    s.addresses = ["no address"]
    assert s.request_finished(request, ([4, 5, 6],)) == (False, None) and s.errors == 1
    assert s.build_connector_meta(step()).closes == []
    stats = s.take_stats()
    assert stats.data["errors"] == 1 and s.take_stats() is None
