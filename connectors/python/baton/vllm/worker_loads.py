"""What a rank loads: from an offer to blocks that are verified, or bad.

A request is reported as received once, if and only if blocks were accepted for it, and only when
nothing writes to them any more.

Confined to the worker's thread.
"""

import dataclasses

import baton
from baton.vllm.guard import logger, named
from baton.vllm.worker_sessions import Record, Sessions, not_made


@dataclasses.dataclass
class Load(Record):
    own: bool = False  # from this node's host tier
    offered: bool = False
    accept: object = None  # the order; then it will be reported


class Loads(Sessions):
    def __init__(self, node, rank, told, tags, tensors, block_tokens):
        super().__init__(node, rank, told, tags)
        self._tensors = tensors
        self._block_tokens = block_tokens

    # --- orders

    def open(self, order):
        arguments = self._arguments(order)
        load = Load(order.request_id, own=order.role == "reload")
        try:
            load.session = baton.DecodeSession(flow=order.flow, **arguments)
        except baton.Error as error:
            not_made(order, error)
            self._failed(order.request_id, str(error), load.own)
            return
        self._keep(load, arguments["tag"])

    def accept(self, order):
        load = self.records.get(order.request_id)
        if load is None or order.refused:
            self._received(order, 0, order.refused or "it had ended before blocks were given")
            return
        load.accept = order
        load.session.accept(order.blocks, order.held_tokens)

    def close(self, order):
        load = self.records.get(order.request_id)
        if load is not None:
            self._abort(load, order.why)
            if load.accept is None:  # it has no blocks, so nothing need be waited for
                self._drop(load)

    # --- what has become of them

    def _look_at(self, load):
        if load.session.released:
            # Aborted: it ends here, whatever poll() would say.
            if load.accept is not None:
                self._received(load.accept, 0, "it was aborted", load.own)
            else:
                self._told.news.failed[load.request_id] = "it was aborted"
            self._drop(load)
            return
        if load.aborted:
            return
        state, tokens, why = load.session.poll()
        if state == "offered" and not load.offered:
            load.offered = True
            self._told.news.offered[load.request_id] = tokens
        elif state in ("loaded", "failed"):
            if load.accept is not None:
                report = load.session.report()
                self._told.news.reports[load.request_id] = report
                self._told.stats.data["bytes_received"] += report["bytes"]
                if self._received(load.accept, tokens, why, load.own):
                    self._told.stats.data["load_seconds"].append(report["seconds"])
            else:
                self._failed(load.request_id, why, load.own)
            load.session.done()
            self._drop(load)

    def _broken(self, request_id, why):
        load = self.records.get(request_id)
        if load is None:
            self._failed(request_id, why)
        elif load.session is not None:
            self._abort(load, why)

    def _failed(self, request_id, why, own=False):
        """Before any blocks were given for it."""
        self._told.news.failed[request_id] = why
        if not own:
            self._told.stats.data["loads_failed"] += 1

    def _received(self, accept, tokens, why, own=False):
        """`tokens` leading tokens are in its blocks; whether these are all that was to be
        loaded."""
        valid = max(tokens, accept.held_tokens)
        if valid < accept.tokens:
            bad = accept.blocks[valid // self._block_tokens:
                                -(-accept.tokens // self._block_tokens)]
            self._clear(bad)
            self._told.bad_blocks.update(bad)
            logger.warning("request %s: %d of %d tokens were loaded: %s",
                           named(accept.request_id), valid, accept.tokens, why)
        self._told.received.add(accept.request_id)
        whole = valid >= accept.tokens
        self._told.stats.data[("reloads" if own else "loads") if whole else "loads_failed"] += 1
        return whole

    def _clear(self, blocks):
        """What was received and not verified is not used, but whoever gets these blocks next writes
        its own tokens only, and an attention kernel reads past them: there must be numbers."""
        try:
            for tensor in self._tensors.values():
                tensor[blocks] = 0
        except Exception:  # whoever waits for these blocks is told all the same
            self._told.errors += 1
            logger.exception("blocks %s could not be cleared", blocks)
