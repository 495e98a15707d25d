"""Prompts of an instance that offloads: how much of one is kept, and how it is evicted."""

from handed_off import counted, request

TOKENS = 900
CHUNK = 256
KEPT = TOKENS // CHUNK * CHUNK
EVICTING = 1050


def host_tokens(engine):
    """That vLLM counts as loaded from its node's host tier."""
    return counted(engine, "prompt_tokens_cached_by_source", "host")


def evict(engine, ids):
    """By a prompt of EVICTING tokens."""
    (other,) = engine.generate([request(ids)])
    assert other["computed"] == EVICTING
