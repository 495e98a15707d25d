"""The same over ucx, compiled instead of eager, in bfloat16, and with the policy that fails a
request whose KV does not come. Compared with the same configuration's own tokens: other shapes of a
step round otherwise in bfloat16."""

import uuid

import pytest

from corruption import FaultFile
from engines import Pair
from fake_prefiller import FakePrefiller
from handed_off import TOKEN_ELEMENTS, alone, assert_handed_off, assert_idle, metric, request
from prompts import prompt


@pytest.fixture(scope="module")
def variant(start, tmp_path_factory):
    setup = {"extra": {"channel": "ucx"}, "policy": "fail",
             "arguments": {"dtype": "bfloat16", "enforce_eager": False},
             # Compiled once: the second finds what the first has made.
             "cache": str(tmp_path_factory.mktemp("compiled"))}
    faults = FaultFile(tmp_path_factory.mktemp("faults") / "variant")
    prefiller = start("prefiller-variant", "kv_producer", 0, **setup).wait_ready()
    decoder = start("decoder-variant", "kv_consumer", 1, faults=faults.spec, **setup).wait_ready()
    two = Pair(prefiller, decoder)
    two.faults = faults
    two.channel, two.block_tokens, two.token_bytes = "ucx:tcp", 128, TOKEN_ELEMENTS * 2
    yield two
    assert [engine.end() for engine in (prefiller, decoder)] == [0, 0]


@pytest.mark.parametrize("tokens", [33, 129, 600])
def test_push_is_equal_to_one_engine(variant, tokenizer, tokens):
    asked = [request(prompt(tokenizer, tokens, seed=500 + tokens))]
    (right,) = alone(variant.prefiller, asked)
    prefills, decodes = variant.push(asked)
    assert prefills[0]["tokens"] == right[:1]
    assert decodes[0]["tokens"] == right
    assert_handed_off(variant, asked, decodes)


def test_a_load_that_breaks_off_fails_the_request(variant, tokenizer):
    asked = request(prompt(tokenizer, 200, seed=5600))
    handoff = str(uuid.uuid4())
    fake = FakePrefiller(variant, asked, handoff, after="sent", layers_done=1, then="die")
    try:
        (failing,) = variant.decoder.call("submit", [{**asked, "params": {"baton": {
            "handoff": handoff, "role": "decode", "budget_ms": 60_000}}}])
        assert variant.decoder.call("steps", 100_000) == {failing: []}
    finally:
        fake.end()
    assert_idle(variant.decoder)


def test_a_load_that_never_verifies_fails_the_request(variant, tokenizer):
    asked = request(prompt(tokenizer, 200, seed=5700))
    handoff = {"handoff": str(uuid.uuid4()), "budget_ms": 60_000}
    before = metric(variant.decoder, "baton_checksum_failures_total")
    with variant.faults.inject("flip=1000,seed=7"):
        (failing,) = variant.decoder.call("submit", [{**asked, "params": {"baton": {
            **handoff, "role": "decode", "peer": variant.prefiller.call("nodes")}}}])
        (sent,) = variant.prefiller.call("submit", [{**asked, "max_tokens": 1, "params": {"baton": {
            **handoff, "role": "prefill", "peer": variant.decoder.call("nodes")}}}])
        assert sent in variant.prefiller.call("steps", 100_000)
        assert variant.decoder.call("steps", 100_000) == {failing: []}
    assert metric(variant.decoder, "baton_checksum_failures_total") > before
    for engine in (variant.prefiller, variant.decoder):
        assert_idle(engine)


def test_without_its_kv_a_request_fails(variant, tokenizer):
    """vLLM's own error, under its policy `fail`; and the next request is served."""
    asked = request(prompt(tokenizer, 200, seed=5500))
    (failing,) = variant.decoder.call("submit", [{**asked, "params": {"baton": {
        "handoff": "44444444-2222-3333-4444-555555555555", "role": "decode", "flow": "fetch",
        "peer": ["127.0.0.1:1"]}}}])
    assert variant.decoder.call("steps", 100_000) == {failing: []}
    assert_idle(variant.decoder)
    assert "Failing 1 request(s) due to KV load failure (failure_policy=fail, 200 tokens" in (
        variant.decoder.log.read_text())
    (answer,) = variant.decoder.generate([asked])
    assert answer["finish_reason"] == "length"
    assert_idle(variant.decoder)
