"""The worker's side: this rank's node, and a session for each request that is handed off.

An exception while one request is served ends that request's handoff, not the step. What the engine
is told follows from two rules:

- a request is reported as received once, if and only if blocks were accepted for it;
- a request is reported as sent once, if and only if the scheduler's side closed it with `report`.

Both only when nothing reads or writes its blocks any more.

Confined to the worker's thread.
"""

import dataclasses
import itertools
import os
import sys

import baton
from baton.vllm.config import chunk_tokens, of_rank
from baton.vllm.guard import hook, logger
from baton.vllm.orders import News, RankNews
from baton.vllm.stats import BatonStats

# A fence waits for a copy of one segment at most. Longer means that the node's thread is stuck.
FENCE_S = 10.0
SENDS = ("prefill", "store")  # the roles of an Open that send
# vLLM repeats steps that compute nothing each millisecond while a request waits for its KV, which
# on a CPU takes half a core from whoever computes it. Such a step lasts until there is news, at most
# so long: a request that comes meanwhile is seen that much later.
IDLE_STEP_S = 0.005
MIB = 1 << 20


@dataclasses.dataclass
class Send:
    request_id: str
    tag: int
    session: object = None  # None: it could not be made
    finished: bool = False  # the whole prompt was computed
    reporting: bool = False  # the engine holds its blocks until it is reported as sent
    aborted: bool = False


@dataclasses.dataclass
class Load:
    request_id: str
    tag: int
    session: object = None
    own: bool = False  # from this node's host tier
    offered: bool = False
    accept: object = None  # the order; then it will be reported
    aborted: bool = False


@dataclasses.dataclass
class Results:
    sent: set = dataclasses.field(default_factory=set)
    received: set = dataclasses.field(default_factory=set)

    def __bool__(self):
        return bool(self.sent or self.received)


def _on_any_core(make):
    """A thread runs on the cores of the one that made it, and on a CPU vLLM binds that one: the
    node's would take its time from the engine's steps. The process that started this one is bound
    as its user chose."""
    bound = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, bound | os.sched_getaffinity(os.getppid()))
    except OSError as error:
        logger.info("baton: the node's threads stay on the engine's cores: %s", error)
    try:
        return make()
    finally:
        os.sched_setaffinity(0, bound)


class WorkerSide:
    def __init__(self, options, rank=0):
        self.options = options
        self.rank = rank
        self.errors = 0
        self.node = None
        self.detected = self.fingerprint = None
        self.chunk_tokens = 0
        self._block_tokens = 0
        self._layers = {}  # name: index
        self._memory = None  # the tensors: they outlive the node
        self._tags = itertools.count(1)
        self._by_tag = {}
        self._sends = {}
        self._loads = {}
        self._step = []  # (send, leading tokens) of the sends that this step computes for
        self._idle = False  # this step computes nothing
        self._hooked = 0  # layers of this step that have been said to be ready
        self._finishing = []
        self._news = RankNews()
        self._results = Results()
        self._bad_blocks = set()
        self._stats = BatonStats()
        self._errors_told = 0

    # --- start and stop: these may raise, nothing runs yet

    def open(self, detected, fingerprint, tensors):
        options = self.options
        config = baton.NodeConfig()
        config.listen = of_rank(options.node, self.rank)
        if options.node_http:
            config.http = of_rank(options.node_http, self.rank)
        config.advertise = of_rank(options.advertise, self.rank)
        config.channel = options.channel
        config.transient = options.mode == "transient"
        config.fingerprint = fingerprint
        self.chunk_tokens = chunk_tokens(options, detected.layout.block_tokens)
        config.chunk_tokens = self.chunk_tokens
        config.retained_bytes = options.host_tier_mib * MIB
        config.transit_bytes = options.transit_mib * MIB
        config.window_bytes = options.window_mib * MIB
        config.huge_pages = options.huge_pages
        config.retain_received = options.retain_received
        config.max_handoffs = options.max_handoffs
        for name in ("lease", "first_contact", "accept", "record", "progress", "heartbeat"):
            setattr(config, f"{name}_s", getattr(options, f"{name}_ms") / 1000)
        config.set_tls(options.tls_cert, options.tls_key, options.tls_ca)
        config.insecure = options.insecure
        config.set_memory(detected.bases, detected.blocks, detected.layout)
        self.detected, self.fingerprint, self._memory = detected, fingerprint, tensors
        self._block_tokens = detected.layout.block_tokens
        self._layers = {name: index for index, name in enumerate(detected.layers)}
        self.node = _on_any_core(lambda: baton.Node(config))
        logger.info("baton: node %s, %d layers, %d blocks of %d tokens, chunks of %d, %s",
                    self.node.advertised, len(detected.bases), detected.blocks, self._block_tokens,
                    config.chunk_tokens, detected.packing)

    @hook()
    def close(self):
        """Ends what is live; when this returns nothing touches the engine's memory."""
        if self.node is None or self.node.closed:
            return
        self._step, self._finishing = [], []
        for record in (*self._sends.values(), *self._loads.values()):
            record.session = None
        self._sends.clear()
        self._loads.clear()
        self._by_tag.clear()
        self.node.close()

    # --- orders

    @hook()
    def handle_preemptions(self, orders):
        """The blocks of these requests are about to be overwritten: nothing may read them then."""
        fenced = []
        for request_id in orders.preempted:
            send = self._sends.get(request_id)
            if send is not None and send.session is not None:
                send.aborted = True
                send.session.revoke("the prefiller's engine preempted the request")
                fenced.append(send)
        for send in fenced:
            if not send.session.wait_released(FENCE_S):
                self.errors += 1
                logger.error("request %s: its blocks were preempted and are still read after %s s",
                             send.request_id, FENCE_S)

    @hook()
    def begin_step(self, orders):
        for order in orders.opens:
            self._guarded(order, self._open, sends=order.role in SENDS)
        self._step, self._finishing, self._hooked = [], [], 0
        self._idle = orders.idle
        for order in orders.progress:
            self._guarded(order, self._progress, sends=True)
        for order in orders.closes:
            self._guarded(order, self._close, sends=not order.load)

    @hook()
    def accept_loads(self, orders):
        for order in orders.accepts:
            self._guarded(order, self._accept, sends=False)

    def _guarded(self, what, do, sends):
        """An exception costs what is sent, or what is loaded, of this request."""
        try:
            do(what)
        except Exception as error:
            self.errors += 1
            logger.exception("request %s: its handoff is given up", what.request_id)
            line = (str(error).splitlines() or [""])[0]
            self._broken(what.request_id, sends,
                         f"the worker's side failed: {type(error).__name__}: {line}")

    def _broken(self, request_id, sends, why):
        record = (self._sends if sends else self._loads).get(request_id)
        if record is not None and record.session is not None:
            self._abort(record, why)
        elif record is None and not sends:
            self._failed(request_id, why)

    def _open(self, order):
        tag = next(self._tags)
        sends = order.role in SENDS
        record = (Send if sends else Load)(order.request_id, tag)
        arguments = dict(node=self.node, handoff=order.handoff, attempt=order.attempt,
                         peer=order.peer[self.rank:self.rank + 1], budget_s=order.budget_s,
                         tokens=order.tokens, salt=order.salt, adapter=order.adapter, tag=tag)
        try:
            if sends:
                record.session = baton.PrefillSession(
                    lease_s=0.0 if order.role == "store" else None, **arguments)
            else:
                record.own = order.role == "reload"
                record.session = baton.DecodeSession(flow=order.flow, **arguments)
        except baton.Error as error:
            logger.warning("request %s, handoff %s/%d: %s", order.request_id, order.handoff,
                           order.attempt, error)
            if not sends:
                self._failed(order.request_id, str(error), record.own)
                return
        self._by_tag[tag] = record
        (self._sends if sends else self._loads)[order.request_id] = record

    def _progress(self, order):
        send = self._sends.get(order.request_id)
        if send is None or send.session is None or send.aborted:
            return
        if order.first:
            send.session.begin(order.new_blocks, 0)
        elif order.new_blocks:
            send.session.extend(order.new_blocks)
        self._step.append((send, order.tokens))
        if order.last:
            self._finishing.append(send)

    def _close(self, order):
        if order.load:
            load = self._loads.get(order.request_id)
            if load is not None:
                self._abort(load, order.why)
                if load.accept is None:  # it has no blocks, so nothing need be waited for
                    self._drop(self._loads, load)
            return
        send = self._sends.get(order.request_id)
        if send is None:
            if order.report:
                self._results.sent.add(order.request_id)
            return
        send.reporting = order.report
        if send.session is not None and not send.session.released and (
                order.why or not send.finished):
            self._abort(send, order.why or "the prefiller's engine gave it up")
        if send.session is None or send.session.released or not order.report:
            self._sent(send)

    def _accept(self, order):
        load = self._loads.get(order.request_id)
        if load is None or order.refused:
            self._received(order, 0, order.refused or "it had ended before blocks were given")
            return
        load.accept = order
        load.session.accept(order.blocks, order.held_tokens)

    def _abort(self, record, why):
        if not record.aborted:
            record.aborted = True
            record.session.abort(why)

    # --- a step

    @hook()
    def layer_ready(self, name):
        if not self._step:
            return
        layer = self._layers[name]
        for send, tokens in self._step:
            send.session.layer_ready(layer, tokens)
        self._hooked += 1

    @hook()
    def end_step(self):
        """The step's layers have all run, whichever said so. vLLM calls this after a step that
        failed too, while its exception is under way."""
        if sys.exc_info()[0] is not None:
            for send, _ in self._step:
                self._abort(send, "the prefiller's step failed")
            self._step, self._finishing = [], []
            return
        if self._hooked < len(self._layers):
            for send, tokens in self._step:
                for layer in range(len(self._layers)):
                    send.session.layer_ready(layer, tokens)
        for send in self._finishing:
            if send.session is not None:
                send.finished = True
                send.session.finish()
        self._step, self._finishing = [], []

    # --- what has become of the sessions

    @hook(Results)
    def take_results(self):
        if self._idle and self._by_tag and not (self._results or self._news):
            self.node.wait_notice(IDLE_STEP_S)
        for tag in self.node.take_notices() if self.node is not None else ():
            record = self._by_tag.get(tag)
            if record is not None:
                sends = isinstance(record, Send)
                self._guarded(record, self._look_at_send if sends else self._look_at_load, sends)
        results, self._results = self._results, Results()
        return results

    @hook(set)
    def take_bad_blocks(self):
        bad, self._bad_blocks = self._bad_blocks, set()
        return bad

    @hook()
    def take_news(self):
        if not self._news:
            return None
        news, self._news = self._news, RankNews()
        return News({self.rank: news})

    @hook()
    def take_stats(self):
        self._stats.data["errors"] += self.errors - self._errors_told
        self._errors_told = self.errors
        if self._stats.is_empty():
            return None
        stats, self._stats = self._stats, BatonStats()
        return stats

    def _look_at_send(self, send):
        if not send.session.released:
            return
        if send.reporting or send.aborted:
            self._sent(send)
        else:
            # Before the engine's request has ended, whose end need not wait for this then.
            self._news.released.append(send.request_id)

    def _sent(self, send):
        """Nothing reads its blocks."""
        if send.reporting:
            self._results.sent.add(send.request_id)
            self._stats.data["sends"] += 1
        self._drop(self._sends, send)

    def _look_at_load(self, load):
        if load.session.released:
            # Aborted: it ends here, whatever poll() would say.
            if load.accept is not None:
                self._received(load.accept, 0, "it was aborted", load.own)
            else:
                self._news.failed[load.request_id] = "it was aborted"
            self._drop(self._loads, load)
            return
        if load.aborted:
            return
        state, tokens, why = load.session.poll()
        if state == "offered" and not load.offered:
            load.offered = True
            self._news.offered[load.request_id] = tokens
        elif state in ("loaded", "failed"):
            if load.accept is not None:
                report = load.session.report()
                self._news.reports[load.request_id] = report
                self._stats.data["bytes_received"] += report["bytes"]
                if self._received(load.accept, tokens, why, load.own):
                    self._stats.data["load_seconds"].append(report["seconds"])
            else:
                self._failed(load.request_id, why, load.own)
            load.session.done()
            self._drop(self._loads, load)

    def _failed(self, request_id, why, own=False):
        """Before any blocks were given for it."""
        self._news.failed[request_id] = why
        if not own:
            self._stats.data["loads_failed"] += 1

    def _received(self, accept, tokens, why, own=False):
        """`tokens` leading tokens are in its blocks; whether these are all that was to be
        loaded."""
        valid = max(tokens, accept.held_tokens)
        if valid < accept.tokens:
            bad = accept.blocks[valid // self._block_tokens:
                                -(-accept.tokens // self._block_tokens)]
            self._clear(bad)
            self._bad_blocks.update(bad)
            logger.warning("request %s: %d of %d tokens were loaded: %s", accept.request_id, valid,
                           accept.tokens, why)
        self._results.received.add(accept.request_id)
        whole = valid >= accept.tokens
        self._stats.data[("reloads" if own else "loads") if whole else "loads_failed"] += 1
        return whole

    def _clear(self, blocks):
        """What was received and not verified is not used, but whoever gets these blocks next writes
        its own tokens only, and an attention kernel reads past them: there must be numbers."""
        try:
            for tensor in self._memory.values():
                tensor[blocks] = 0
        except Exception:  # whoever waits for these blocks is told all the same
            self.errors += 1
            logger.exception("blocks %s could not be cleared", blocks)

    def _drop(self, records, record):
        del records[record.request_id]
        self._by_tag.pop(record.tag, None)
        record.session = None

