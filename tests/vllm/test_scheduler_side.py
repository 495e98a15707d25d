"""The scheduler's side: what is handed off, kept and looked for, and what goes wrong in a hook."""

import pytest

from baton.vllm.orders import Orders
from scheduler_hooks import ID, Blocks, decode, news, plain, side, step


@pytest.mark.parametrize("role, fields, params", [
    ("kv_producer", {}, None),
    ("kv_both", {"mm_features": ("an image",)}, None),
    ("kv_both", {"pooling_params": object()}, None),
    ("kv_both", {}, {"handoff": ID, "role": "decode", "peer": ["a:1", "b:1"]}),
])
def test_what_is_not_handed_off_is_computed(role, fields, params):
    s, request = side(consumer=role == "kv_both"), decode(**fields)
    if params:
        request.kv_transfer_params = {"baton": params}
    s.on_new_request(request)
    assert s.get_num_new_matched_tokens(request, 0) == (0, False)
    assert s.build_connector_meta(step()) == Orders(idle=True)


def test_a_step_that_computes_nothing_is_said_to():
    s = side()
    assert s.build_connector_meta(step()).idle
    assert not s.build_connector_meta(step(new=[("p", [4], 0, 128)])).idle


def test_wrong_parameters_are_no_exception():
    s, request = side(), decode()
    request.kv_transfer_params = {"baton": {"role": "none"}}
    s.on_new_request(request)
    assert s.get_num_new_matched_tokens(request, 0) == (0, False)
    delay, answer = s.request_finished(request, ([],))
    assert not delay and s.errors == 0 and answer["baton"]["end"] == "refused"
    assert "baton.role is 'none': expected 'prefill' or 'decode'" in answer["baton"]["why"]
    assert s.request_finished(request, ([],)) == (False, None)  # nothing is kept of it


def test_a_reset_is_ordered_once_and_waits_for_no_request():
    s = side()
    assert not s.has_orders
    assert s.reset_cache() is True and s.has_orders
    assert s.build_connector_meta(step()).drop
    assert not s.has_orders and not s.build_connector_meta(step()).drop


@pytest.mark.parametrize("offered", [False, True])
def test_what_was_found_before_a_reset_is_not_loaded(offered):
    s, request, other = side(offload=True), plain(), decode()
    s.on_new_request(request)
    s.on_new_request(other)
    s.build_connector_meta(step())
    if offered:
        s.update_connector_output(news(offered={"o": 256}))
    s.reset_cache()
    assert s.get_num_new_matched_tokens(request, 0) == (0, False)
    orders = s.build_connector_meta(step())
    assert [(close.request_id, close.load) for close in orders.closes] == [("o", True)]
    # What a prefiller sends is its own to judge.
    assert s.get_num_new_matched_tokens(other, 0) == (None, False)
    # Its news cross the reset.
    s.update_connector_output(news(offered={"o": 256}))
    assert s.get_num_new_matched_tokens(request, 0) == (0, False)


def test_whole_chunks_are_looked_for_and_kept():
    s, request = side(offload=True), plain()
    s.on_new_request(request)
    assert s.get_num_new_matched_tokens(request, 0) == (None, False)
    opens = {order.role: order for order in s.build_connector_meta(step()).opens}
    assert set(opens) == {"reload", "store"}
    assert len(opens["reload"].tokens) == 600 and len(opens["store"].tokens) == 512
    assert opens["reload"].peer == opens["store"].peer == []
    s.update_connector_output(news(offered={"o": 256}))
    assert s.get_num_new_matched_tokens(request, 128) == (128, True)
    assert not s.hit_is_own("else") and s.hit_is_own("o")
    s.update_state_after_alloc(request, Blocks([1, 2]), 128)
    (accept,) = s.build_connector_meta(step()).accepts
    assert (accept.held_tokens, accept.tokens) == (128, 256)
    s.update_connector_output(news(received={"o"}))
    (one,) = s.build_connector_meta(step(new=[("o", [1, 2, 3, 4, 5], 256, 344)])).progress
    # The table ends where the kept chunks end.
    assert (one.tokens, one.new_blocks, one.last) == (512, [1, 2, 3, 4], True)
    s.update_connector_output(news(released=["o"]))
    assert s.request_finished(request, ([1, 2, 3, 4, 5],)) == (False, None)


@pytest.mark.parametrize("tokens, fields, roles", [
    (255, {}, []), (256, {}, ["reload", "store"]),
    (600, {"skip_reading_prefix_cache": True}, ["store"]),
    (600, {"mm_features": ("an image",)}, []),
    (600, {"kv_transfer_params": {"baton": {"handoff": ID, "role": "decode"}}}, ["decode"]),
    (600, {"kv_transfer_params": {"baton": {"handoff": ID, "role": "prefill", "peer": ["a:1"]}}},
     ["prefill", "reload"])])
def test_what_is_looked_for_and_kept(tokens, fields, roles):
    s, request = side(offload=True), plain(tokens, **fields)
    s.on_new_request(request)
    assert [order.role for order in s.build_connector_meta(step()).opens] == roles


@pytest.mark.parametrize("changed", [{"producer": False}, {"consumer": False},
                                     {"offload": False}])
def test_who_does_not_offload(changed):
    s, request = side(**{"offload": True, **changed}), plain()
    s.on_new_request(request)
    assert s.build_connector_meta(step()) == Orders(idle=True)
    assert s.get_num_new_matched_tokens(request, 0) == (0, False)


def test_an_exception_costs_the_transfer_and_not_the_engine():
    s, request = side(), decode()
    s.on_new_request(None)
    assert s.get_num_new_matched_tokens(None, 0) == (0, False)
    assert s.build_connector_meta(None) == Orders()
    assert s.request_finished(None, ()) == (False, None)
    s.update_connector_output(None)
    s.update_state_after_alloc(None, None, 1)
    assert s.errors == 6
    s.on_new_request(request)
    assert s.get_num_new_matched_tokens(request, 0) == (None, False)


def test_a_tenants_salt_changes_what_is_asked_for():
    salts = set()
    for cache_salt, salt in ((None, ""), ("a", ""), ("", "a"), ("a", "a"), ("b", "a")):
        s, request = side(), decode(cache_salt=cache_salt)
        request.kv_transfer_params["baton"]["salt"] = salt
        s.on_new_request(request)
        salts.add(s.build_connector_meta(step()).opens[0].salt)
    assert len(salts) == 5
