"""Segments that are flipped, lost, doubled, out of order, late, or somebody else's: counted,
recovered from, and never a wrong token."""

import collections
import random

import pytest

from baton import LAYERS, prompt_of, rounds
from client import together
from handed_off import assert_computed, assert_handed_off

# A segment under the number of another chunk ("foreign") or of another layer of its chunk.
SOMEBODY_ELSES = ("foreign", "layer")
KINDS = ("flip", "lose", "double", "reorder", "late", *SOMEBODY_ELSES)
ROUNDS = max(8, rounds(20))  # fewer could do without a single fault


def faulty(spec, **flags):
    return {"program": "tests/faulty_engine", "fault": f"layers={LAYERS},{spec}", **flags}


def injected(engine, kind):
    return engine.log.count(f"fault injected kind={kind}")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind(baton, alone, kind):
    cluster = baton.cluster(decode=faulty(f"{kind}=150,seed=7"))
    ends = collections.Counter()
    for i in range(ROUNDS):
        prompt = prompt_of(random.Random(i).randrange(65, 600), seed=i)
        answer = cluster.complete(prompt)
        ends[answer.handoff["end"]] += 1
        if answer.handoff["end"] == "committed":
            assert_handed_off(answer, alone(prompt), len(prompt))
        else:
            assert answer.tokens == alone(prompt)
            # The sender's time may be over first; then it says so.
            assert answer.handoff["end"] in ("failed", "expired") or (
                answer.handoff["end"] == "cancelled"
                and "the time without a new ACK is over" in answer.handoff["why"]), answer.handoff
    # What came twice or in another order is no loss; of the rest, most is asked for again in time.
    if kind in ("double", "reorder"):
        assert ends["committed"] == ROUNDS, ends
    else:
        assert ends["committed"] > 0.7 * ROUNDS, ends
    cluster.wait_idle()
    count = injected(cluster.decoder, kind)
    assert count > 0
    metrics = cluster.decoder.metrics()
    failures = metrics.value("baton_checksum_failures_total", where="handoff")
    dropped = metrics.value("baton_segments_dropped_total")
    if kind == "flip" or kind in SOMEBODY_ELSES:
        # A segment that comes under the number of one that is there already is dropped.
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
    committed = 0
    for prompt, answer, tokens in zip(prompts, answers, expected):
        assert answer.tokens == tokens
        if answer.handoff["end"] == "committed":
            assert_handed_off(answer, tokens, len(prompt))
            committed += 1
    cluster.wait_idle()
    assert committed > len(answers) / 2  # faults are recovered from, not merely survived


def test_a_segment_that_never_verifies_ends_the_handoff(baton, alone):
    cluster = baton.cluster(decode=faulty("flip=1000"))
    prompt = prompt_of(200)
    assert_computed(cluster.complete(prompt), alone(prompt), 200, "failed")
    assert cluster.decoder.metrics().value("baton_checksum_failures_total", where="handoff") > 0
    cluster.wait_idle()
