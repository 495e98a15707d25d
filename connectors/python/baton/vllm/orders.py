"""What the scheduler's side and the worker's side tell each other: plain values, carried by vLLM's
own connector metadata (scheduler to worker, each step) and worker metadata (back, each step).
"""

import dataclasses

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorWorkerMetadata,
)


@dataclasses.dataclass
class Open:
    """A session is to be made: "prefill" and "decode" as kv_transfer_params say; "store" keeps
    whole chunks in the host tier; "reload" asks it for them, and finding none is no failure."""

    request_id: str
    role: str
    handoff: str
    attempt: int
    flow: str
    peer: list
    budget_s: float
    tokens: list
    salt: str
    adapter: str


@dataclasses.dataclass
class Accept:
    """The engine has given blocks; the worker reports the request as received exactly once."""

    request_id: str
    blocks: list
    held_tokens: int  # leading tokens that the engine holds in them already
    tokens: int  # leading tokens that the engine takes as loaded afterwards
    refused: str = ""  # nothing is coming: report it as failed, with this reason


@dataclasses.dataclass
class Progress:
    """What this step computes of a prompt that is being handed off."""

    request_id: str
    tokens: int  # leading tokens whose KV is there when the step's layers have run
    new_blocks: list
    first: bool = False
    last: bool = False


@dataclasses.dataclass
class Close:
    """The request is over for the engine, or its handoff is.

    `report`: its blocks are held; the worker reports it as sent exactly once, when nothing reads
    them any more.
    """

    request_id: str
    why: str = ""  # not empty: the handoff is aborted
    report: bool = False
    load: bool = False  # of what is loaded for it, not of what is sent


@dataclasses.dataclass
class Orders(KVConnectorMetadata):
    opens: list = dataclasses.field(default_factory=list)
    accepts: list = dataclasses.field(default_factory=list)
    progress: list = dataclasses.field(default_factory=list)
    preempted: list = dataclasses.field(default_factory=list)  # ids of sends whose blocks are gone
    closes: list = dataclasses.field(default_factory=list)
    idle: bool = False  # this step computes nothing
    drop: bool = False  # what the host tier keeps means nothing any more; before all else here

    def take(self):
        """What was said so far; nothing is left."""
        taken = dataclasses.replace(self)
        self.__init__()
        return taken


@dataclasses.dataclass
class RankNews:
    offered: dict = dataclasses.field(default_factory=dict)  # request id: leading tokens
    failed: dict = dataclasses.field(default_factory=dict)  # request id: why, before any blocks
    reports: dict = dataclasses.field(default_factory=dict)  # request id: HandoffReport as a dict
    released: list = dataclasses.field(default_factory=list)  # ids of sends that read no block more

    def __bool__(self):
        return bool(self.offered or self.failed or self.reports or self.released)


@dataclasses.dataclass
class News(KVConnectorWorkerMetadata):
    by_rank: dict

    def aggregate(self, other):
        return News({**self.by_rank, **other.by_rank})


@dataclasses.dataclass
class NodeAddress(KVConnectorHandshakeMetadata):
    node: str
    http: str
