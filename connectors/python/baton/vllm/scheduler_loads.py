"""The scheduler's side of what is loaded: when a request gets blocks, and what its engine is told.

    WAITING ── offered ──> OFFERED ── blocks ──> ACCEPTED ── over ──> OVER
       └────── failed ───> FAILED ── (policy) ──────┘

While it is WAITING the engine is told "later" and pins no blocks for it. FAILED computes by itself
where the load-failure policy is `recompute`; with `fail` it takes blocks and is reported as failed,
so that the engine's own policy decides.

What an instance that offloads asks its own host tier for ("reload") goes the same way, but fails
silently where there is nothing of it.

Confined to the scheduler's thread.
"""

import dataclasses
import time

from baton.vllm.guard import logger, named
from baton.vllm.orders import Accept, Close
from baton.vllm.scheduler_handoff import Handoff, State

# Beyond the budget: then the worker's side has not said how a session ended, which it always does.
GRACE_S = 10.0


@dataclasses.dataclass
class Load(Handoff):
    needed: int = 0  # leading tokens beyond which nothing can be loaded
    own: bool = False  # reload
    deadline: float = 0.0
    offers: dict = dataclasses.field(default_factory=dict)  # rank: leading tokens
    held: int = 0  # leading tokens of the engine's own, when it last asked
    reports: dict = dataclasses.field(default_factory=dict)  # rank: HandoffReport as a dict
    computed: int = 0  # of the prompt's tokens, by this engine


class Loads:
    def __init__(self, orders, *, recompute, ranks):
        self._orders = orders
        self._recompute = recompute
        self._ranks = ranks
        self._loads = {}

    def open(self, load, needed, own=False):
        load.needed, load.own = needed, own
        load.deadline = time.monotonic() + load.budget_s + GRACE_S
        self._loads[load.request_id] = load
        if load.state == State.WAITING:
            self._orders.opens.append(load.open_order())

    def is_own(self, request_id):
        load = self._loads.get(request_id)
        return load is not None and load.own

    # --- a request waits

    def matched_tokens(self, request, computed):
        """As vLLM's get_num_new_matched_tokens: how many tokens beyond those `computed` are to be
        loaded (None: ask again), and whether they come asynchronously."""
        load = self._loads.get(request.request_id)
        if load is None or load.state in (State.ACCEPTED, State.OVER):
            return 0, False
        load.held = computed
        # The last token is computed in any case, to have its logits.
        if computed >= min(load.tokens - 1, load.needed):
            self._give_up(load, "the engine holds the prompt itself")
            return 0, False
        if getattr(request, "skip_reading_prefix_cache", False):
            self._give_up(load, "the engine computes all of this prompt (prompt_logprobs)")
            return 0, False
        if load.state == State.WAITING and time.monotonic() > load.deadline:
            load.why = "the worker's side has not said how it ended"
            self._orders.closes.append(Close(load.request_id, load.why, load=True))
            load.state = State.FAILED
        if load.state == State.WAITING:
            return None, False
        if load.state == State.FAILED:
            if self._recompute or load.own:
                self._finish(load)
                return 0, False
            return load.tokens - computed, True
        offers = set(load.offers.values())
        if len(offers) > 1:
            self._give_up(load, f"its ranks are offered different parts: {sorted(offers)} tokens")
            return 0, False
        external = offers.pop() - computed
        if external <= 0:
            self._give_up(load, "the engine holds what is offered")
            return 0, False
        return external, True

    def allocated(self, request, blocks, external):
        """The engine has given blocks; `external` tokens of them are to be loaded."""
        load = self._loads.get(request.request_id)
        if load is None or load.state not in (State.OFFERED, State.FAILED):
            return
        if external <= 0:
            self._give_up(load, "the engine loads nothing for it")
            return
        self._orders.accepts.append(
            Accept(load.request_id, list(blocks.get_block_ids()[0]), load.held,
                   load.held + external, load.why if load.state == State.FAILED else ""))
        load.state = State.ACCEPTED

    def _give_up(self, load, why):
        """Before any block was given for it."""
        if load.state in (State.WAITING, State.OFFERED):
            self._orders.closes.append(Close(load.request_id, why, load=True))
        load.why = load.why or why
        self._finish(load)

    def forget_own(self, why):
        """What was found in the host tier is not what is wanted any more."""
        for load in self._loads.values():
            if load.own and load.state in (State.WAITING, State.OFFERED):
                self._give_up(load, why)

    def _finish(self, load):
        load.state = State.OVER
        if not load.own:
            logger.info("request %s: not loaded: %s", named(load.request_id), load.why)

    # --- a step

    def count_computed(self, output):
        """Of the prompts that were to be loaded, what this engine computes itself."""
        if not self._loads:
            return
        cached = output.scheduled_cached_reqs
        scheduled = [(new.req_id, new.num_computed_tokens) for new in output.scheduled_new_reqs]
        for request_id, before in scheduled + list(zip(cached.req_ids, cached.num_computed_tokens)):
            load = self._loads.get(request_id)
            if load is not None and before < load.tokens:
                after = before + output.num_scheduled_tokens[request_id]
                load.computed += min(load.tokens, after) - before

    # --- the worker's side has news

    def heard(self, rank, said):
        for request_id, tokens in said.offered.items():
            load = self._loads.get(request_id)
            if load is not None and load.state == State.WAITING:
                load.offers[rank] = tokens
                if len(load.offers) == self._ranks:
                    load.state = State.OFFERED
        for request_id, why in said.failed.items():
            load = self._loads.get(request_id)
            if load is not None and load.state in (State.WAITING, State.OFFERED):
                load.state, load.why = State.FAILED, why
                # The other ranks' sessions are for nothing then.
                self._orders.closes.append(Close(request_id, why, load=True))
        for request_id, report in said.reports.items():
            load = self._loads.get(request_id)
            if load is not None:
                load.reports[rank] = report

    def received(self, request_ids):
        for request_id in request_ids:
            load = self._loads.get(request_id)
            if load is not None:
                load.state = State.OVER

    # --- a request is over

    def take(self, request_id):
        return self._loads.pop(request_id, None)

    def close(self, load):
        if load.state in (State.WAITING, State.OFFERED, State.ACCEPTED):
            self._orders.closes.append(
                Close(load.request_id, "the decoder's request has ended", load=True))

    def answer(self, load):
        """Of all ranks: what failed rather than what did not, the bytes of all, the least share."""
        said = list(load.reports.values())
        ends = [each["end"] or "failed" for each in said]
        bad = next((end for end in ends if end != "committed"), "failed")
        shares = [each["share_of_bound"] for each in said if each["share_of_bound"] is not None]
        return {"baton": {"handoff": load.transfer.handoff,
                          "end": "committed" if ends == ["committed"] * self._ranks else bad,
                          "why": next((each["why"] for each in said if each["why"]), load.why),
                          "bytes": sum(each["bytes"] for each in said),
                          "transport": next((each["transport"] for each in said), ""),
                          "share_of_bound": min(shares, default=None),
                          "prompt_tokens_computed": load.computed}}
