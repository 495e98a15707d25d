"""Segments that are flipped, lost, doubled, out of order, late, or somebody else's: counted,
recovered from, and never a wrong token."""

import random

import pytest

from baton import prompt_of, rounds
from client import together

KINDS = ("flip", "lose", "double", "reorder", "late", "foreign")


def faulty(spec, **flags):
    return {"program": "tests/faulty_engine", "fault": spec, **flags}


def injected(engine, kind):
    return engine.log.count(f"fault injected kind={kind}")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind(baton, alone, kind):
    cluster = baton.cluster(decode=faulty(f"{kind}=150,seed=7"))
    for i in range(rounds(20)):
        prompt = prompt_of(random.Random(i).randrange(65, 600), seed=i)
        answer = cluster.complete(prompt)
        assert answer.tokens == alone(prompt)
        assert answer.handoff["end"] in ("committed", "failed", "expired")
        if answer.handoff["end"] == "committed":
            assert answer.handoff["prompt_tokens_computed"] == 1
    cluster.wait_idle()
    count = injected(cluster.decoder, kind)
    assert count > 0
    metrics = cluster.decoder.metrics()
    failures = metrics.value("baton_checksum_failures_total", where="handoff")
    dropped = metrics.value("baton_segments_dropped_total")
    if kind in ("flip", "foreign"):
        # A foreign segment that comes under the number of one that is there already is dropped.
        assert failures + dropped >= count and failures > 0
        assert failures <= count
    else:
        assert failures == 0
    if kind == "double":
        assert dropped >= count


def test_all_kinds_at_once_for_many(baton, alone):
    spec = ",".join(f"{kind}=25" for kind in KINDS)
    cluster = baton.cluster(decoders=2, decode=[faulty(f"{spec},seed={seed}") for seed in (1, 2)])
    prompts = [prompt_of(30 + 29 * i, seed=i) for i in range(rounds(40))]
    expected = [alone(prompt) for prompt in prompts]
    answers = []
    for begin in range(0, len(prompts), 10):
        answers += together([lambda p=p: cluster.complete(p) for p in prompts[begin:begin + 10]])
    for answer, tokens in zip(answers, expected):
        assert answer.tokens == tokens
    cluster.wait_idle()
    committed = sum(answer.handoff["end"] == "committed" for answer in answers)
    assert committed > len(answers) / 2  # faults are recovered from, not merely survived


def test_a_segment_that_never_verifies_ends_the_handoff(baton, alone):
    cluster = baton.cluster(decode=faulty("flip=1000"))
    prompt = prompt_of(200)
    answer = cluster.complete(prompt)
    assert answer.tokens == alone(prompt)
    assert answer.handoff["end"] == "failed"
    assert answer.handoff["prompt_tokens_computed"] == 200
    assert cluster.decoder.metrics().value("baton_checksum_failures_total", where="handoff") > 0
    cluster.wait_idle()
