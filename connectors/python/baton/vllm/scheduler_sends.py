"""The scheduler's side of what is sent: how far a prompt is computed, and whether its blocks are
held behind the request's end.

A request is WAITING while it is queued in the engine, ACCEPTED from its first step on, and OVER
when the engine preempts it. What an instance that offloads keeps of a prompt ("store") is a send
without a peer.

Confined to the scheduler's thread.
"""

import dataclasses

from baton.vllm import params
from baton.vllm.guard import logger, named
from baton.vllm.orders import Close, Progress
from baton.vllm.scheduler_handoff import Handoff, State


@dataclasses.dataclass
class Send(Handoff):
    ready: int = 0  # leading tokens whose KV is there after the steps that were scheduled
    blocks: int = 0  # that the worker's side knows
    released: set = dataclasses.field(default_factory=set)  # ranks that read no block more


class Sends:
    def __init__(self, orders, *, block_tokens, engine_id, ranks):
        self.addresses = []  # of the ranks' nodes
        self._orders = orders
        self._block_tokens = block_tokens
        self._engine_id = engine_id
        self._ranks = ranks
        self._sends = {}

    def open(self, send):
        self._sends[send.request_id] = send
        self._orders.opens.append(send.open_order())

    # --- a step

    def step(self, output):
        for request_id in output.preempted_req_ids or ():
            self._preempted(request_id)
        for new in output.scheduled_new_reqs:
            send = self._sends.get(new.req_id)
            if send is not None and send.state == State.WAITING:
                send.state = State.ACCEPTED
                self._progress(send, new.num_computed_tokens, output, new.block_ids, first=True)
        cached = output.scheduled_cached_reqs
        for i, request_id in enumerate(cached.req_ids):
            send = self._sends.get(request_id)
            if send is not None and send.state == State.ACCEPTED:
                self._progress(send, cached.num_computed_tokens[i], output,
                               cached.new_block_ids[i])

    def _progress(self, send, computed, output, new_blocks, first=False):
        if send.ready >= send.tokens:
            return  # what is computed now are tokens of its own
        send.ready = min(send.tokens, computed + output.num_scheduled_tokens[send.request_id])
        # The engine's table goes on beyond what is handed off.
        room = -(-send.tokens // self._block_tokens) - send.blocks
        blocks = list(new_blocks[0])[:room] if new_blocks else []
        send.blocks += len(blocks)
        # What the engine's prefix cache holds of it is said with this step's layers too, not
        # before: vLLM takes for cached what another request of that step is about to compute.
        self._orders.progress.append(
            Progress(send.request_id, send.ready, blocks, first, send.ready == send.tokens))

    def _preempted(self, request_id):
        send = self._sends.get(request_id)
        # What is gathered already needs the blocks no more.
        if send is not None and send.state == State.ACCEPTED and len(send.released) < self._ranks:
            send.state, send.why = State.OVER, "the prefiller's engine preempted the request"
            self._orders.preempted.append(request_id)

    # --- the worker's side has news

    def heard(self, rank, said):
        for request_id in said.released:
            send = self._sends.get(request_id)
            if send is not None:
                send.released.add(rank)

    # --- a request is over

    def take(self, request_id):
        return self._sends.pop(request_id, None)

    def close(self, send, complete):
        """Whether its blocks are held until the worker's side reports it as sent."""
        # No block of it is read any more: all was gathered, it never began, or was preempted.
        held = send.state == State.ACCEPTED and len(send.released) < self._ranks
        self._orders.closes.append(
            Close(send.request_id, "" if complete else "the prefiller's request has ended",
                  report=held))
        return held

    def for_decoder(self, send, blocks):
        """What a prefiller that holds chunks answers."""
        if not self.addresses:
            logger.warning("request %s: its decoder is not told of it: this side has not heard of "
                           "its workers' nodes", named(send.request_id))
            return None
        # Baton's decoders read no block ids. Who reads NIXL's shape may.
        return {**params.for_decoder(send.transfer, self._engine_id, self.addresses, send.tokens),
                "remote_block_ids": [list(group) for group in blocks]}


def is_complete(send, request):
    """Whether all of the prompt was computed, and its request ended as it should."""
    return (send.ready >= send.tokens
            and request.status.name in ("FINISHED_LENGTH_CAPPED", "FINISHED_STOPPED"))
