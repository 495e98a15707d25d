"""Bytes that change on their way between real engines: counted, recovered from, and never a wrong
token. (The policy `fail` is in test_variants.py.)"""

import pytest

from conftest import tiny_arguments
from engines import Pair
from handed_off import alone, assert_idle, metric, request
from tiny_model import LAYERS, prompt

TOKENS = 300
PROMPTS = 8


@pytest.fixture
def pair(tiny):
    return tiny


def failures(engine):
    return metric(engine, "baton_checksum_failures_total")


def asked_for(seed):
    return request(prompt(TOKENS, seed=seed), max_tokens=8)


def test_some_segments_are_asked_for_again(pair):
    asked = [asked_for(9700 + i) for i in range(PROMPTS)]
    right = [alone(pair.prefiller, [one])[0] for one in asked]
    before = failures(pair.decoder)
    whole = 0
    for one, tokens in zip(asked, right):
        with pair.faults.inject("flip=250,seed=7"):
            _, (answer,) = pair.push([one])
        said = answer["params"]["baton"]
        assert answer["tokens"] == tokens and answer["finish_reason"] == "length"
        assert said["end"] == "committed" or said["why"], said
        assert (answer["computed"] == 1) == (said["end"] == "committed"), answer
        whole += said["end"] == "committed"
    assert failures(pair.decoder) > before and whole > PROMPTS / 2
    for engine in (pair.prefiller, pair.decoder):
        assert_idle(engine)


def test_what_never_verifies_is_computed(pair):
    asked = asked_for(9800)
    (right,) = alone(pair.prefiller, [asked])
    before = failures(pair.decoder)
    with pair.faults.inject("flip=1000,seed=7"):
        _, (answer,) = pair.push([asked])
    said = answer["params"]["baton"]
    assert answer["tokens"] == right and answer["computed"] == TOKENS
    assert said["end"] != "committed" and said["why"], said
    assert failures(pair.decoder) > before
    # And the next one, of which nothing is spoilt, is loaded.
    _, (answer,) = pair.push([asked_for(9801)])
    assert answer["computed"] == 1 and answer["params"]["baton"]["end"] == "committed"
    for engine in (pair.prefiller, pair.decoder):
        assert_idle(engine)


@pytest.mark.parametrize("tiny", ["local"], indirect=True)
def test_with_the_check_disabled_they_change_tokens(tiny, start, tiny_folder):
    """The control: what the others show, they show because the check is there."""
    believing = start("tiny-believing", "kv_consumer", 1, extra={"channel": tiny.channel},
                      arguments=tiny_arguments(tiny_folder),
                      faults=f"unverified,layer=400,layers={LAYERS},seed=7").wait_ready()
    pair = Pair(tiny.prefiller, believing)
    wrong = 0
    for i in range(PROMPTS):
        asked = asked_for(9900 + i)
        (right,) = alone(pair.prefiller, [asked])
        _, (answer,) = pair.push([asked])
        if answer["params"]["baton"]["end"] == "committed":
            wrong += answer["tokens"] != right
    assert wrong > 0
    assert metric(believing, "baton_checksum_failures_total") == 0
    assert believing.end() == 0
