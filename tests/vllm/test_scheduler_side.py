"""The scheduler's side, hook by hook, as vLLM's scheduler calls it."""

import dataclasses
import types

import pytest

from baton.vllm import config
from baton.vllm.orders import News, Orders, RankNews
from baton.vllm.scheduler_side import SchedulerSide

ID = "11111111-2222-3333-4444-555555555555"


@dataclasses.dataclass
class Request:
    request_id: str
    prompt_token_ids: list
    kv_transfer_params: dict | None = None
    prompt_embeds: object = None
    mm_features: tuple = ()
    pooling_params: object = None
    cache_salt: str | None = None
    lora_request: object = None
    skip_reading_prefix_cache: bool = False
    status: object = dataclasses.field(
        default_factory=lambda: types.SimpleNamespace(name="FINISHED_LENGTH_CAPPED"))


class Blocks:
    def __init__(self, ids):
        self.ids = ids

    def get_block_ids(self):
        return (list(self.ids),)


def step(new=(), cached=(), preempted=()):
    """A SchedulerOutput: new and cached are (id, blocks, computed before, scheduled)."""
    return types.SimpleNamespace(
        preempted_req_ids=set(preempted),
        scheduled_new_reqs=[types.SimpleNamespace(req_id=i, block_ids=(b,), num_computed_tokens=c)
                            for i, b, c, _ in new],
        scheduled_cached_reqs=types.SimpleNamespace(
            req_ids=[i for i, *_ in cached],
            new_block_ids=[(b,) if b else None for _, b, _, _ in cached],
            num_computed_tokens=[c for _, _, c, _ in cached]),
        num_scheduled_tokens={i: n for i, _, _, n in (*new, *cached)})


def news(offered=(), failed=(), reports=(), received=(), released=(), rank=0):
    said = News({rank: RankNews(dict(offered), dict(failed), dict(reports), list(released))})
    return types.SimpleNamespace(kv_connector_worker_meta=said, finished_recving=set(received))


def report(end, size=10, share=0.5):
    return {"end": end, "why": "", "bytes": size, "transport": "local", "share_of_bound": share}


def side(offload=False, mode="retained", tails=False, **changed):
    arguments = dict(producer=True, consumer=True, recompute=True, engine_id="engine",
                     block_tokens=128)
    options = config.Options(offload=offload, mode=mode, offload_tails=tails)
    return SchedulerSide(options, **{**arguments, **changed})


def decode(tokens=300, ranks=1, **fields):
    return Request("d", list(range(tokens)), {"baton": {"handoff": ID, "role": "decode", "peer": [
        f"127.0.0.1:{1 + rank}" for rank in range(ranks)]}}, **fields)


def prefill(tokens=300, params=None, **fields):
    return Request("p", list(range(tokens)), params or {
        "baton": {"handoff": ID, "role": "prefill", "peer": ["127.0.0.1:1"]}}, **fields)


# --- a decoder's request

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
    monkeypatch.setattr("baton.vllm.scheduler_side.time.monotonic", lambda: 1e12)
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
    for ends, said in ((("committed", "committed"), "committed"), (("committed", "failed"), "failed"),
                       (("committed",), "failed")):
        s, request = side(ranks=2), decode(ranks=2)
        s.on_new_request(request)
        for rank, end in enumerate(ends):
            s.update_connector_output(news(reports={"d": report(end, share=0.9 - rank / 2)},
                                           rank=rank))
        _, answer = s.request_finished(request, [])
        assert answer["baton"]["end"] == said
        assert answer["baton"]["bytes"] == 10 * len(ends)
        assert answer["baton"]["share_of_bound"] == 0.9 - (len(ends) - 1) / 2


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
    assert s.request_finished(request, ([],)) == (False, None) and s.errors == 0


def test_an_answer_that_cannot_be_made_leaves_no_order(monkeypatch):
    s, request = side(), prefill(params={"do_remote_decode": True})
    s.on_new_request(request)
    s.build_connector_meta(step(new=[("p", [4, 5, 6], 0, 300)]))
    s.addresses = ["no address"]
    assert s.request_finished(request, ([4, 5, 6],)) == (False, None) and s.errors == 1
    assert s.build_connector_meta(step()).closes == []
    stats = s.take_stats()
    assert stats.data["errors"] == 1 and s.take_stats() is None


# --- a prefiller's request

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
    assert s.request_finished(request, ([1, 2, 3],)) == (False, None)


@pytest.mark.parametrize("producer, mode, retain_received, nothing", [
    (True, "transient", False, True), (True, "transient", True, False),
    (True, "retained", False, False), (False, "retained", False, True)])
def test_what_is_kept_is_not_said_to_be_dropped(producer, mode, retain_received, nothing):
    s = side(mode=mode, producer=producer)
    s.options = dataclasses.replace(s.options, retain_received=retain_received)
    assert s.keeps_nothing() is nothing


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


# --- a request of an instance that offloads


def plain(tokens=600, **fields):
    return Request("o", list(range(tokens)), **fields)


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


# --- both

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
