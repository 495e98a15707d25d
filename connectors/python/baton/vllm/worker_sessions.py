"""What sends and loads of a rank have in common: sessions, each known by its request and by the tag
of its node's notices, and what the engine is told of them.

Confined to the worker's thread.
"""

import dataclasses

from baton.vllm.guard import logger, named
from baton.vllm.orders import RankNews
from baton.vllm.stats import BatonStats


@dataclasses.dataclass
class Told:
    """What was not told yet."""

    sent: set = dataclasses.field(default_factory=set)
    received: set = dataclasses.field(default_factory=set)
    bad_blocks: set = dataclasses.field(default_factory=set)
    news: RankNews = dataclasses.field(default_factory=RankNews)
    stats: BatonStats = dataclasses.field(default_factory=BatonStats)
    errors: int = 0

    def __bool__(self):
        """Whether a step has anything for the scheduler."""
        return bool(self.sent or self.received or self.news)

    def take(self, name):
        """What has gathered there; from now on it gathers anew."""
        value = getattr(self, name)
        setattr(self, name, type(value)())
        return value


@dataclasses.dataclass
class Record:
    request_id: str
    session: object = None
    aborted: bool = False
    tag: int = 0


class Sessions:
    """Of one kind; the two kinds share `told` and `tags`."""

    def __init__(self, node, rank, told, tags):
        self.records = {}  # request id: record
        self._by_tag = {}
        self._node = node
        self._rank = rank
        self._told = told
        self._tags = tags

    def __len__(self):
        return len(self.records)

    def guarded(self, do, what):
        """An exception costs what is sent, or what is loaded, of this request."""
        try:
            do(what)
        except Exception as error:
            self._told.errors += 1
            logger.exception("request %s: its handoff is given up", named(what.request_id))
            line = (str(error).splitlines() or [""])[0]
            self._broken(what.request_id,
                         f"the worker's side failed: {type(error).__name__}: {line}")

    def look(self, tag):
        """A notice of the node's; whoever's it was may be gone."""
        record = self._by_tag.get(tag)
        if record is not None:
            self.guarded(self._look_at, record)

    def clear(self):
        for record in self.records.values():
            record.session = None
        self.records.clear()
        self._by_tag.clear()

    def _arguments(self, order):
        """A session's, whichever kind it is."""
        return dict(node=self._node, handoff=order.handoff, attempt=order.attempt,
                    peer=order.peer[self._rank:self._rank + 1], budget_s=order.budget_s,
                    tokens=order.tokens, salt=order.salt, adapter=order.adapter,
                    tag=next(self._tags))

    def _keep(self, record, tag):
        record.tag = tag
        self._by_tag[tag] = self.records[record.request_id] = record

    def _drop(self, record):
        del self.records[record.request_id]
        self._by_tag.pop(record.tag, None)
        record.session = None

    def _abort(self, record, why):
        if not record.aborted:
            record.aborted = True
            record.session.abort(why)


def not_made(order, error):
    logger.warning("request %s, handoff %s/%d: %s", named(order.request_id), order.handoff,
                   order.attempt, error)
