"""The scheduler's side: which requests are handed off, and who serves each hook.

A request that loads is in scheduler_loads.py, one that sends in scheduler_sends.py; an entry is
dropped when the engine says that its request is finished. An instance that offloads (kv_both) asks
its own host tier for the prompt of every other request, and keeps the whole chunks of what it
computes: a load and a send without a peer.

Confined to the scheduler's thread.
"""

import uuid

from baton.vllm import params as transfer_params
from baton.vllm.config import chunk_tokens
from baton.vllm.guard import hook, logger, named
from baton.vllm.orders import Orders
from baton.vllm.scheduler_handoff import State, of_request
from baton.vllm.scheduler_loads import Load, Loads
from baton.vllm.scheduler_sends import Send, Sends, is_complete
from baton.vllm.stats import BatonStats


class SchedulerSide:
    def __init__(self, options, *, producer, consumer, recompute, engine_id, block_tokens, ranks=1):
        self.options = options
        self.chunk_tokens = chunk_tokens(options, block_tokens)
        self.offload = producer and consumer and options.offload and options.mode == "retained"
        self.producer = producer
        self.consumer = consumer
        self.ranks = ranks
        self.errors = self._errors_told = 0
        self._refused = {}  # request id: why nothing of it is handed off, until it ends
        self._orders = Orders()
        self._loads = Loads(self._orders, recompute=recompute, ranks=ranks)
        self._sends = Sends(self._orders, block_tokens=block_tokens, engine_id=engine_id,
                            ranks=ranks)

    @property
    def addresses(self):
        """Of the ranks' nodes."""
        return self._sends.addresses

    @addresses.setter
    def addresses(self, known):
        self._sends.addresses = known

    # --- a request arrives

    @hook()
    def on_new_request(self, request):
        try:
            transfer = transfer_params.parse(request.kv_transfer_params)
        except transfer_params.ParamsError as error:
            self._refuse(request, str(error))
            return
        if transfer is not None:
            self._open(request, transfer)
        if self.offload and (transfer is None or transfer.role == "prefill"):
            self._open_offload(request, store=transfer is None)

    def _open(self, request, transfer):
        why = self._unsupported(request, transfer)
        if why:
            self._refuse(request, why)
        if transfer.role == "decode":
            load = self._handoff(Load, request, transfer)
            if why:
                load.state, load.why = State.FAILED, why
            self._loads.open(load, needed=load.tokens)
        elif not why:
            self._sends.open(self._handoff(Send, request, transfer))

    def _refuse(self, request, why):
        """Its engine computes it; its answer says why nothing is handed off."""
        logger.warning("request %s is not handed off: %s", named(request.request_id), why)
        self._refused[request.request_id] = why

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
            self._loads.open(self._handoff(Load, request, reload), needed=tokens, own=True)
        if store:
            send = self._handoff(Send, request, transfer_params.Transfer("store",
                                                                         str(uuid.uuid4())))
            send.prompt = send.prompt[:tokens]
            self._sends.open(send)

    def _handoff(self, kind, request, transfer):
        return of_request(kind, request, transfer, self.options.budget_ms / 1000)

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

    # --- a decoder's request waits

    @hook(lambda: (0, False))
    def get_num_new_matched_tokens(self, request, computed):
        return self._loads.matched_tokens(request, computed)

    @hook()
    def update_state_after_alloc(self, request, blocks, external):
        self._loads.allocated(request, blocks, external)

    def hit_is_own(self, request_id):
        return self._loads.is_own(request_id)

    # --- a step

    @hook(Orders)
    def build_connector_meta(self, output):
        self._loads.count_computed(output)
        self._sends.step(output)
        orders = self._orders.take()
        orders.idle = not output.num_scheduled_tokens
        return orders

    @hook()
    def update_connector_output(self, output):
        news = output.kv_connector_worker_meta
        for rank, said in (news.by_rank if news is not None else {}).items():
            self._loads.heard(rank, said)
            self._sends.heard(rank, said)
        self._loads.received(output.finished_recving or ())

    # --- a request is over

    @hook(lambda: (False, None))
    def request_finished(self, request, blocks):
        load, send = (side.take(request.request_id) for side in (self._loads, self._sends))
        refused = self._refused.pop(request.request_id, None)
        # Before an order leaves: nothing may fail after that, or the worker's side would report
        # blocks that vLLM has been told are free.
        complete = send is not None and is_complete(send, request)
        answer, held = None, False
        if complete and send.transfer.two_step and send.state == State.ACCEPTED:
            answer = self._sends.for_decoder(send, blocks)
        elif load is not None and not load.own:
            answer = self._loads.answer(load)
        elif refused is not None:
            answer = transfer_params.refused(refused)
        if load is not None:
            self._loads.close(load)
        if send is not None:
            held = self._sends.close(send, complete)
        return held, answer

    # --- of the whole instance

    def take_stats(self):
        told, self._errors_told = self._errors_told, self.errors
        if told == self.errors:
            return None
        stats = BatonStats()
        stats.data["errors"] = self.errors - told
        return stats

    # vLLM asks for it where KV means nothing any more, after a change of weights. Of its own requests
    # none has blocks then, or it says by itself that it did not succeed.
    @hook(lambda: False)
    def reset_cache(self):
        self._loads.forget_own("the caches were reset")
        self._orders.drop = True
        return True

    @property
    def has_orders(self):
        """That a step should take to the workers, even where there is nothing else to do."""
        return self._orders.drop
