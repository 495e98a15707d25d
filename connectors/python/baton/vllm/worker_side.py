"""The worker's side: this rank's node, and who serves each hook.

What the rank sends is in worker_sends.py, what it loads in worker_loads.py. An exception while one
request is served ends that request's handoff, not the step.

Confined to the worker's thread.
"""

import itertools
import os
import sys

import baton
from baton.vllm.address import of_rank, of_rank_path
from baton.vllm.config import chunk_tokens
from baton.vllm.guard import hook, logger
from baton.vllm.orders import News
from baton.vllm.worker_loads import Loads
from baton.vllm.worker_sends import ROLES, Sends
from baton.vllm.worker_sessions import Told

# vLLM repeats steps that compute nothing each millisecond while a request waits for its KV, which
# on a CPU takes half a core from whoever computes it. Such a step lasts until there is news, at
# most so long: a request that comes meanwhile is seen that much later.
IDLE_STEP_S = 0.005
# The node's thread is busy with one segment at most. Longer means that it is stuck.
DROP_S = 10.0
MIB = 1 << 20


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


def node_config(options, rank, detected, fingerprint):
    config = baton.NodeConfig()
    config.listen = of_rank(options.node, rank)
    if options.node_http:
        config.http = of_rank(options.node_http, rank)
    config.advertise = of_rank(options.advertise, rank)
    config.channel = options.channel
    config.transient = options.mode == "transient"
    config.fingerprint = fingerprint
    config.chunk_tokens = chunk_tokens(options, detected.layout.block_tokens)
    config.retained_bytes = options.host_tier_mib * MIB
    config.tier_policy = options.tier_policy
    config.tenant_bytes = options.tenant_quota_mib * MIB
    config.set_nvme([of_rank_path(device, rank) for device in options.nvme.split(",") if device])
    if options.s3:
        config.set_s3(options.s3)
    if options.store:
        config.store_node = options.store
    config.peers = [peer for peer in options.peers.split(",") if peer]
    config.transit_bytes = options.transit_mib * MIB
    config.window_bytes = options.window_mib * MIB
    config.huge_pages = options.huge_pages
    config.retain_received = options.retain_received
    config.max_handoffs = options.max_handoffs
    for name in ("lease", "load", "first_contact", "accept", "record", "progress", "heartbeat"):
        setattr(config, f"{name}_s", getattr(options, f"{name}_ms") / 1000)
    config.set_tls(options.tls_cert, options.tls_key, options.tls_ca)
    config.insecure = options.insecure
    config.set_memory(detected.bases, detected.blocks, detected.layout)
    return config


class WorkerSide:
    def __init__(self, options, rank=0):
        self.options = options
        self.rank = rank
        self.node = None
        self.detected = self.fingerprint = None
        self.chunk_tokens = 0
        self._memory = None  # the tensors: they outlive the node
        self._sends = self._loads = ()
        self._told = Told()
        self._errors_told = 0
        self._idle = False  # this step computes nothing

    @property
    def errors(self):
        return self._told.errors

    @errors.setter
    def errors(self, count):
        self._told.errors = count

    # --- start and stop: these may raise, nothing runs yet

    def open(self, detected, fingerprint, tensors):
        config = node_config(self.options, self.rank, detected, fingerprint)
        self.detected, self.fingerprint, self._memory = detected, fingerprint, tensors
        self.chunk_tokens = config.chunk_tokens
        self.node = _on_any_core(lambda: baton.Node(config))
        tags, block_tokens = itertools.count(1), detected.layout.block_tokens
        self._sends = Sends(self.node, self.rank, self._told, tags, detected.layers)
        self._loads = Loads(self.node, self.rank, self._told, tags, tensors, block_tokens)
        logger.info("baton: node %s, %d layers, %d blocks of %d tokens, chunks of %d, %s",
                    self.node.advertised, len(detected.bases), detected.blocks, block_tokens,
                    config.chunk_tokens, detected.packing)

    @hook()
    def close(self):
        """Ends what is live; when this returns nothing touches the engine's memory."""
        if self.node is None or self.node.closed:
            return
        self._sends.begin_step()
        self._sends.clear()
        self._loads.clear()
        self.node.close()

    # --- orders

    @hook()
    def handle_preemptions(self, orders):
        self._sends.fence(orders.preempted)

    @hook()
    def begin_step(self, orders):
        if orders.drop:
            self._drop_chunks()
        for order in orders.opens:
            kind = self._sends if order.role in ROLES else self._loads
            kind.guarded(kind.open, order)
        self._sends.begin_step()
        self._idle = orders.idle
        for order in orders.progress:
            self._sends.guarded(self._sends.progress, order)
        for order in orders.closes:
            kind = self._loads if order.load else self._sends
            kind.guarded(kind.close, order)

    def _drop_chunks(self):
        try:
            logger.info("baton: %d chunks were dropped", self.node.drop_chunks(DROP_S))
        except baton.Error as error:  # the node's thread is stuck, or gone
            self.errors += 1
            logger.error("baton: chunks are not dropped yet: %s", error)

    @hook()
    def accept_loads(self, orders):
        for order in orders.accepts:
            self._loads.guarded(self._loads.accept, order)

    # --- a step

    @hook()
    def layer_ready(self, name):
        self._sends.layer_ready(name)

    @hook()
    def end_step(self):
        """vLLM calls this after a step that failed too, while its exception is under way."""
        if sys.exc_info()[0] is not None:
            self._sends.fail_step()
        else:
            self._sends.end_step()

    # --- what has become of the sessions

    @hook(lambda: (set(), set()))
    def take_results(self):
        """Requests that are reported as sent, and as received."""
        if self._idle and (len(self._sends) or len(self._loads)) and not self._told:
            self.node.wait_notice(IDLE_STEP_S)
        for tag in self.node.take_notices() if self.node is not None else ():
            self._sends.look(tag)
            self._loads.look(tag)
        return self._told.take("sent"), self._told.take("received")

    @hook(set)
    def take_bad_blocks(self):
        return self._told.take("bad_blocks")

    @hook()
    def take_news(self):
        return News({self.rank: self._told.take("news")}) if self._told.news else None

    @hook()
    def take_stats(self):
        self._told.stats.data["errors"] += self.errors - self._errors_told
        self._errors_told = self.errors
        return None if self._told.stats.is_empty() else self._told.take("stats")
