"""vLLM's scheduler as the hooks of the scheduler's side see it: requests, steps, and what the
workers have said."""

import dataclasses
import types

from baton.vllm import config
from baton.vllm.orders import News, RankNews
from baton.vllm.scheduler_side import SchedulerSide

ID = "11111111-2222-3333-4444-555555555555"


@dataclasses.dataclass
class Request:
    request_id: str
    prompt_token_ids: list
    kv_transfer_params: dict | None = None
    prompt_embeds: object = None
    mm_features: tuple = ()
    pooling_params: object = None
    cache_salt: str | None = None
    lora_request: object = None
    skip_reading_prefix_cache: bool = False
    status: object = dataclasses.field(
        default_factory=lambda: types.SimpleNamespace(name="FINISHED_LENGTH_CAPPED"))


class Blocks:
    def __init__(self, ids):
        self.ids = ids

    def get_block_ids(self):
        return (list(self.ids),)


def step(new=(), cached=(), preempted=()):
    """A SchedulerOutput: new and cached are (id, blocks, computed before, scheduled)."""
    return types.SimpleNamespace(
        preempted_req_ids=set(preempted),
        scheduled_new_reqs=[types.SimpleNamespace(req_id=i, block_ids=(b,), num_computed_tokens=c)
                            for i, b, c, _ in new],
        scheduled_cached_reqs=types.SimpleNamespace(
            req_ids=[i for i, *_ in cached],
            new_block_ids=[(b,) if b else None for _, b, _, _ in cached],
            num_computed_tokens=[c for _, _, c, _ in cached]),
        num_scheduled_tokens={i: n for i, _, _, n in (*new, *cached)})


def news(offered=(), failed=(), reports=(), received=(), released=(), rank=0):
    said = News({rank: RankNews(dict(offered), dict(failed), dict(reports), list(released))})
    return types.SimpleNamespace(kv_connector_worker_meta=said, finished_recving=set(received))


def report(end, size=10, share=0.5):
    return {"end": end, "why": "", "bytes": size, "transport": "local", "share_of_bound": share}


def side(offload=False, mode="retained", tails=False, **changed):
    arguments = dict(producer=True, consumer=True, recompute=True, engine_id="engine",
                     block_tokens=128)
    options = config.Options(offload=offload, mode=mode, offload_tails=tails)
    return SchedulerSide(options, **{**arguments, **changed})


def decode(tokens=300, ranks=1, **fields):
    return Request("d", list(range(tokens)), {"baton": {"handoff": ID, "role": "decode", "peer": [
        f"127.0.0.1:{1 + rank}" for rank in range(ranks)]}}, **fields)


def prefill(tokens=300, params=None, **fields):
    return Request("p", list(range(tokens)), params or {
        "baton": {"handoff": ID, "role": "prefill", "peer": ["127.0.0.1:1"]}}, **fields)


def plain(tokens=600, **fields):
    return Request("o", list(range(tokens)), **fields)
