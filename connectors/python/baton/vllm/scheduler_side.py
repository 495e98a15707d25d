"""The scheduler's side: which requests are handed off, and what the engine is told of them.

A decoder's request:

    WAITING ── offered ──> OFFERED ── blocks ──> ACCEPTED ── over ──> OVER
       └────── failed ───> FAILED ── (policy) ──────┘

While it is WAITING the engine is told "later" and pins no blocks for it. FAILED computes by itself
where the load-failure policy is `recompute`; with `fail` it takes blocks and is reported as failed,
so that the engine's own policy decides.

An instance that offloads (kv_both) treats every other request so, too: its prompt is asked for in
the node's own host tier ("reload", which fails silently where there is nothing of it), and the whole
chunks of what is computed are kept there ("store", a send without a peer).

A prefiller's request: WAITING (queued in the engine), then ACCEPTED from its first step on, and
OVER. An entry is dropped when the engine says that its request is finished.

Confined to the scheduler's thread.
"""

import dataclasses
import enum
import time
import uuid

from baton.vllm import params as transfer_params
from baton.vllm.config import chunk_tokens
from baton.vllm.guard import hook, logger
from baton.vllm.orders import Accept, Close, Open, Orders, Progress
from baton.vllm.stats import BatonStats

# Beyond the budget: then the worker's side has not said how a session ended, which it always does.
GRACE_S = 10.0


class State(enum.Enum):
    WAITING = 0
    OFFERED = 1
    FAILED = 2
    ACCEPTED = 3
    OVER = 4


@dataclasses.dataclass
class Handoff:
    request_id: str
    transfer: object
    prompt: list
    salt: str
    adapter: str
    deadline: float
    state: State = State.WAITING
    why: str = ""
    # --- a decoder's
    offers: dict = dataclasses.field(default_factory=dict)  # rank: leading tokens
    held: int = 0  # leading tokens of the engine's own, when it last asked
    reports: dict = dataclasses.field(default_factory=dict)  # rank: HandoffReport as a dict
    computed: int = 0  # of the prompt's tokens, by this engine
    own: bool = False  # reload
    # --- a prefiller's
    ready: int = 0  # leading tokens whose KV is there after the steps that were scheduled
    blocks: int = 0  # that the worker's side knows
    released: set = dataclasses.field(default_factory=set)  # ranks that read no block more

    @property
    def tokens(self):
        return len(self.prompt)


class SchedulerSide:
    def __init__(self, options, *, producer, consumer, recompute, engine_id, block_tokens, ranks=1):
        self.options = options
        self.block_tokens = block_tokens
        self.chunk_tokens = chunk_tokens(options, block_tokens)
        self.offload = producer and consumer and options.offload and options.mode == "retained"
        self.producer = producer
        self.consumer = consumer
        self.recompute = recompute
        self.engine_id = engine_id
        self.ranks = ranks
        self.addresses = []
        self.errors = self._errors_told = 0
        self._sends = {}
        self._loads = {}
        self._orders = Orders()

    # --- a request arrives

    @hook()
    def on_new_request(self, request):
        try:
            transfer = transfer_params.parse(request.kv_transfer_params)
        except transfer_params.ParamsError as error:
            logger.warning("request %s is not handed off: %s", request.request_id, error)
            return
        if transfer is not None:
            self._open(request, transfer)
        if self.offload and (transfer is None or transfer.role == "prefill"):
            self._open_offload(request, store=transfer is None)

    def _open(self, request, transfer):
        why = self._unsupported(request, transfer)
        handoff = self._handoff(request, transfer)
        if why:
            logger.warning("request %s is not handed off: %s", request.request_id, why)
            handoff.state, handoff.why = State.FAILED, why
        if transfer.role == "decode":
            self._loads[request.request_id] = handoff
        elif not why:
            self._sends[request.request_id] = handoff
        if not why:
            self._orders.opens.append(self._open_order(handoff))

    def _kept(self, tokens):
        """How many leading tokens of a prompt an instance that offloads keeps."""
        if self.options.offload_tails:
            return tokens
        return tokens // self.chunk_tokens * self.chunk_tokens

    def _open_offload(self, request, store):
        """A prompt that is nobody's handoff, or only sent to somebody."""
        reload = transfer_params.Transfer("reload", str(uuid.uuid4()), flow="fetch")
        tokens = self._kept(len(request.prompt_token_ids or ()))
        if tokens == 0 or self._unsupported(request, reload):
            return
        if not request.skip_reading_prefix_cache:
            load = self._handoff(request, reload)
            load.own = True
            self._loads[request.request_id] = load
            self._orders.opens.append(self._open_order(load))
        if store:
            send = self._handoff(request, transfer_params.Transfer("store", str(uuid.uuid4())))
            send.prompt = send.prompt[:tokens]
            self._sends[request.request_id] = send
            self._orders.opens.append(self._open_order(send))

    def _handoff(self, request, transfer):
        return Handoff(request.request_id, transfer, list(request.prompt_token_ids or ()),
                       _salt(transfer, request), _adapter(request),
                       time.monotonic() + self._budget(transfer) + GRACE_S)

    def _unsupported(self, request, transfer):
        if request.prompt_token_ids is None or request.prompt_embeds is not None:
            return "its prompt is not tokens alone"
        if request.mm_features:
            return "it has multimodal inputs, which chunk keys do not cover yet"
        if request.pooling_params is not None:
            return "it pools"
        if transfer.role == "prefill" and not self.producer:
            return "kv_role is kv_consumer: this instance does not prefill for others"
        if transfer.role == "decode" and not self.consumer:
            return "kv_role is kv_producer: this instance does not load from others"
        if transfer.two_step and self.options.mode == "transient":
            return "it names no decoder, and in transient mode nothing is held for one"
        if len(transfer.peer) not in (0, self.ranks):
            return f"its peer has {len(transfer.peer)} ranks, this instance {self.ranks}"
        return ""

    def _budget(self, transfer):
        return transfer.budget_s or self.options.budget_ms / 1000

    def _open_order(self, handoff):
        transfer = handoff.transfer
        return Open(handoff.request_id, transfer.role, transfer.handoff, transfer.attempt,
                    transfer.flow, list(transfer.peer), self._budget(transfer), handoff.prompt,
                    handoff.salt, handoff.adapter)

    # --- a decoder's request waits

    @hook(lambda: (0, False))
    def get_num_new_matched_tokens(self, request, computed):
        load = self._loads.get(request.request_id)
        if load is None or load.state in (State.ACCEPTED, State.OVER):
            return 0, False
        load.held = computed
        # The last token is computed in any case, to have its logits.
        if computed >= min(load.tokens - 1, self._kept(load.tokens) if load.own else load.tokens):
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
            if self.recompute or load.own:
                self._finish_load(load)
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

    @hook()
    def update_state_after_alloc(self, request, blocks, external):
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
        self._finish_load(load)

    def _finish_load(self, load):
        load.state = State.OVER
        if not load.own:
            logger.info("request %s: not loaded: %s", load.request_id, load.why)

    def take_stats(self):
        told, self._errors_told = self._errors_told, self.errors
        if told == self.errors:
            return None
        stats = BatonStats()
        stats.data["errors"] = self.errors - told
        return stats

    def hit_is_own(self, request_id):
        load = self._loads.get(request_id)
        return load is not None and load.own

    @hook(lambda: False)
    def keeps_nothing(self):
        sent = self.producer and self.options.mode == "retained"
        if not sent and not self.options.retain_received:
            return True
        logger.warning("the node's host tier keeps chunks of KV, and they cannot be dropped while "
                       "it runs: with other weights start anew, or use the mode 'transient'")
        return False

    # --- a step

    @hook(Orders)
    def build_connector_meta(self, output):
        self._count_computed(output)
        for request_id in output.preempted_req_ids or ():
            self._preempted(request_id)
        for new in output.scheduled_new_reqs:
            send = self._sends.get(new.req_id)
            if send is not None and send.state == State.WAITING:
                send.state = State.ACCEPTED
                self._progress(send, new.num_computed_tokens, output, new.block_ids,
                               first=True)
        cached = output.scheduled_cached_reqs
        for i, request_id in enumerate(cached.req_ids):
            send = self._sends.get(request_id)
            if send is None or send.state != State.ACCEPTED:
                continue
            self._progress(send, cached.num_computed_tokens[i], output, cached.new_block_ids[i])
        orders, self._orders = self._orders, Orders()
        orders.idle = not output.num_scheduled_tokens
        return orders

    def _progress(self, send, computed, output, new_blocks, first=False):
        if send.ready >= send.tokens:
            return  # what is computed now are tokens of its own
        send.ready = min(send.tokens, computed + output.num_scheduled_tokens[send.request_id])
        # The engine's table goes on beyond what is handed off.
        room = -(-send.tokens // self.block_tokens) - send.blocks
        blocks = list(new_blocks[0])[:room] if new_blocks else []
        send.blocks += len(blocks)
        # What the engine's prefix cache holds of it is said with this step's layers too, not
        # before: vLLM takes for cached what another request of that step is about to compute.
        self._orders.progress.append(
            Progress(send.request_id, send.ready, blocks, first, send.ready == send.tokens))

    def _preempted(self, request_id):
        send = self._sends.get(request_id)
        # What is gathered already needs the blocks no more.
        if send is not None and send.state == State.ACCEPTED and len(send.released) < self.ranks:
            send.state, send.why = State.OVER, "the prefiller's engine preempted the request"
            self._orders.preempted.append(request_id)

    def _count_computed(self, output):
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

    @hook()
    def update_connector_output(self, output):
        news = output.kv_connector_worker_meta
        for rank, said in (news.by_rank if news is not None else {}).items():
            for request_id, tokens in said.offered.items():
                load = self._loads.get(request_id)
                if load is not None and load.state == State.WAITING:
                    load.offers[rank] = tokens
                    if len(load.offers) == self.ranks:
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
            for request_id in said.released:
                send = self._sends.get(request_id)
                if send is not None:
                    send.released.add(rank)
        for request_id in output.finished_recving or ():
            load = self._loads.get(request_id)
            if load is not None:
                load.state = State.OVER

    # --- a request is over

    @hook(lambda: (False, None))
    def request_finished(self, request, blocks):
        request_id = request.request_id
        load, send = self._loads.pop(request_id, None), self._sends.pop(request_id, None)
        # Before an order leaves: nothing may fail after that, or the worker's side would report
        # blocks that vLLM has been told are free.
        complete = send is not None and send.ready >= send.tokens and _ended_well(request)
        answer, delay = None, False
        if complete and send.transfer.two_step and send.state == State.ACCEPTED:
            answer = self._for_decoder(send, blocks)
        elif load is not None and not load.own:
            answer = self._answer(load)
        if load is not None:
            if load.state in (State.WAITING, State.OFFERED, State.ACCEPTED):
                self._orders.closes.append(
                    Close(request_id, "the decoder's request has ended", load=True))
        if send is not None:
            # No block of it is read any more: all was gathered, it never began, or was preempted.
            delay = send.state == State.ACCEPTED and len(send.released) < self.ranks
            self._orders.closes.append(
                Close(request_id, "" if complete else "the prefiller's request has ended",
                      report=delay))
        return delay, answer

    def _for_decoder(self, send, blocks):
        if not self.addresses:
            logger.warning("request %s: its decoder is not told of it: this side has not heard of "
                           "its workers' nodes", send.request_id)
            return None
        # Baton's decoders read no block ids. Who reads NIXL's shape may.
        return {**transfer_params.for_decoder(send.transfer, self.engine_id, self.addresses,
                                              send.tokens),
                "remote_block_ids": [list(group) for group in blocks]}

    def _answer(self, load):
        """Of all ranks: what failed rather than what did not, the bytes of all, the least share."""
        said = list(load.reports.values())
        ends = [each["end"] or "failed" for each in said]
        bad = next((end for end in ends if end != "committed"), "failed")
        shares = [each["share_of_bound"] for each in said if each["share_of_bound"] is not None]
        return {"baton": {"handoff": load.transfer.handoff,
                          "end": "committed" if ends == ["committed"] * self.ranks else bad,
                          "why": next((each["why"] for each in said if each["why"]), load.why),
                          "bytes": sum(each["bytes"] for each in said),
                          "transport": next((each["transport"] for each in said), ""),
                          "share_of_bound": min(shares, default=None),
                          "prompt_tokens_computed": load.computed}}


def _ended_well(request):
    return request.status.name in ("FINISHED_LENGTH_CAPPED", "FINISHED_STOPPED")


def _salt(transfer, request):
    """What the legs' parameters say, and the client's own cache salt."""
    own = request.cache_salt or ""
    return transfer.salt if not own else f"{len(transfer.salt)}:{transfer.salt}{own}"


def _adapter(request):
    return request.lora_request.lora_name if request.lora_request else ""
