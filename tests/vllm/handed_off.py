"""Requests of tests, and what must be true once they were handed off."""

import re

ANSWER = 24

# KV of one token of SmolLM2-135M: 30 layers, 3 heads of 64, keys and values.
TOKEN_ELEMENTS = 30 * 3 * 64 * 2


def kv_bytes(pair, tokens):
    """What crosses: whole blocks, because the CPU's are opaque."""
    return -(-tokens // pair.block_tokens) * pair.block_tokens * pair.token_bytes


salts = iter(range(1_000_000))


def request(ids, salt=None, **fields):
    """Of a tenant of its own, so that no engine finds another test's KV in its prefix cache."""
    return {"prompt": ids, "salt": salt or f"salt {next(salts)}", "max_tokens": ANSWER, **fields}


def alone(engine, requests):
    """The engine's own answers, under other salts."""
    own = [{**each, "salt": f"alone {next(salts)}"} for each in requests]
    return [answer["tokens"] for answer in engine.generate(own)]


def metric(engine, name):
    """Of its node: the sum over a metric's labels."""
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$",
                                                    engine.call("metrics"), re.MULTILINE))


def counted(engine, name, label=None):
    """Of vLLM's own counters: the sum of those of that name, and with that value of a label."""
    return sum(value for found, labels, value in engine.call("counters", f"vllm:{name}")
               if found == f"vllm:{name}" and (label is None or label in labels))


def assert_idle(engine):
    """No block, request or session is left, and no hook failed."""
    engine.call("step_until_idle")
    state = engine.call("state")
    assert state["free_blocks"] == state["blocks"] - 1, state  # vLLM's null block
    assert (state["requests"], state["sessions"], state["errors"]) == (0, 0, 0), state


def assert_handed_off(pair, requests, answers, held=0):
    """One token computed, all bytes received, nothing left."""
    for each, answer in zip(requests, answers):
        tokens = len(each["prompt"])
        said = answer["params"]["baton"] if answer["params"] else None
        assert answer["finish_reason"] == "length"
        assert answer["computed"] == 1, (tokens, answer)
        if tokens - held > 1:
            assert said["end"] == "committed" and said["transport"] == pair.channel, said
            assert said["bytes"] == kv_bytes(pair, tokens) - kv_bytes(pair, held), said
            assert said["prompt_tokens_computed"] == 1
    for engine in (pair.prefiller, pair.decoder):
        assert_idle(engine)
