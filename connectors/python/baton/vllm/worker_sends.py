"""What a rank sends: from the layers that its steps compute to the blocks that are free again.

A request is reported as sent once, if and only if the scheduler's side closed it with `report`, and
only when nothing reads its blocks any more.

Confined to the worker's thread.
"""

import dataclasses

import baton
from baton.vllm.guard import logger, named
from baton.vllm.worker_sessions import Record, Sessions, not_made

ROLES = ("prefill", "store")  # of an Open
# A fence waits for a copy of one segment at most. Longer means that the node's thread is stuck.
FENCE_S = 10.0


@dataclasses.dataclass
class Send(Record):  # without a session: it could not be made
    finished: bool = False  # the whole prompt was computed
    reporting: bool = False  # the engine holds its blocks until it is reported as sent


class Sends(Sessions):
    def __init__(self, node, rank, told, tags, layers):
        super().__init__(node, rank, told, tags)
        self._layers = {name: index for index, name in enumerate(layers)}
        self._step = []  # (send, leading tokens) of those that this step computes for
        self._finishing = []
        self._hooked = 0  # layers of this step that have been said to be ready

    # --- orders

    def open(self, order):
        arguments = self._arguments(order)
        send = Send(order.request_id)
        try:
            send.session = baton.PrefillSession(
                lease_s=0.0 if order.role == "store" else None, **arguments)
        except baton.Error as error:
            not_made(order, error)
        self._keep(send, arguments["tag"])

    def progress(self, order):
        send = self.records.get(order.request_id)
        if send is None or send.session is None or send.aborted:
            return
        if order.first:
            send.session.begin(order.new_blocks, 0)
        elif order.new_blocks:
            send.session.extend(order.new_blocks)
        self._step.append((send, order.tokens))
        if order.last:
            self._finishing.append(send)

    def close(self, order):
        send = self.records.get(order.request_id)
        if send is None:
            if order.report:
                self._told.sent.add(order.request_id)
            return
        send.reporting = order.report
        if send.session is not None and not send.session.released and (
                order.why or not send.finished):
            self._abort(send, order.why or "the prefiller's engine gave it up")
        if send.session is None or send.session.released or not order.report:
            self._sent(send)

    def fence(self, request_ids):
        """The blocks of these requests are about to be overwritten: nothing may read them then."""
        fenced = []
        for request_id in request_ids:
            send = self.records.get(request_id)
            if send is not None and send.session is not None:
                send.aborted = True
                send.session.revoke("the prefiller's engine preempted the request")
                fenced.append(send)
        for send in fenced:
            if not send.session.wait_released(FENCE_S):
                self._told.errors += 1
                logger.error("request %s: its blocks were preempted and are still read after %s s",
                             named(send.request_id), FENCE_S)

    # --- a step

    def begin_step(self):
        self._step, self._finishing, self._hooked = [], [], 0

    def layer_ready(self, name):
        if not self._step:
            return
        layer = self._layers[name]
        for send, tokens in self._step:
            send.session.layer_ready(layer, tokens)
        self._hooked += 1

    def end_step(self):
        """The step's layers have all run, whichever said so."""
        if self._hooked < len(self._layers):
            for send, tokens in self._step:
                for layer in self._layers.values():
                    send.session.layer_ready(layer, tokens)
        for send in self._finishing:
            if send.session is not None:
                send.finished = True
                send.session.finish()
        self.begin_step()

    def fail_step(self):
        for send, _ in self._step:
            self._abort(send, "the prefiller's step failed")
        self.begin_step()

    # --- what has become of them

    def _look_at(self, send):
        if not send.session.released:
            return
        if send.reporting or send.aborted:
            self._sent(send)
        else:
            # Before the engine's request has ended, whose end need not wait for this then.
            self._told.news.released.append(send.request_id)

    def _sent(self, send):
        """Nothing reads its blocks."""
        if send.reporting:
            self._told.sent.add(send.request_id)
            self._told.stats.data["sends"] += 1
        self._drop(send)

    def _broken(self, request_id, why):
        send = self.records.get(request_id)
        if send is not None and send.session is not None:
            self._abort(send, why)
