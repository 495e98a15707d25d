"""The rules of a handoff between real processes: who comes first, what comes twice or too late,
who may not speak to whom, and what a FETCH finds."""

import uuid

import pytest

from baton import MODEL, Router, prompt_of, scaled, wait_for
from client import together
from handed_off import assert_computed, assert_handed_off
from legs import Legs, prefill_alone


def pair(baton, prefill=None, decode=None, **common):
    return (baton.engine("prefill", **{**common, **(prefill or {})}),
            baton.engine("decode", **{**common, **(decode or {})}))


def test_the_same_attempt_twice_and_the_next(baton, alone):
    prefiller, decoder = pair(baton)
    prompt = prompt_of(150)
    with Legs(prefiller, decoder, prompt) as legs:
        first = [legs.send("prefill"), legs.send("decode")]
        assert_handed_off(first[1].result(), alone(prompt), 150)
        assert first[0].result().status == 200
        again = legs.send("decode").result()  # its handoff has ended: it computes by itself
    assert again.tokens == alone(prompt)
    assert again.handoff["prompt_tokens_computed"] == 150
    other = prompt_of(150, seed=1)  # neither does another prompt get anything under that id
    with Legs(prefiller, decoder, other, handoff=legs.handoff) as legs:
        decoded, prefilled = legs.send("decode"), legs.send("prefill")
        assert decoded.result().tokens == alone(other)
        assert decoded.result().handoff["prompt_tokens_computed"] == 150
        prefilled.result()
    assert decoder.metrics().value("baton_handoffs_total", end="committed") == 1
    with Legs(prefiller, decoder, prompt, handoff=legs.handoff, attempt=2, flow="fetch") as retry:
        second = retry.send("decode").result()
    assert_handed_off(second, alone(prompt), 150)
    assert second.handoff["attempt"] == 2
    decoder.wait_idle()


def test_a_prefiller_that_never_speaks(baton, alone):
    prefiller, decoder = pair(baton, decode={"first_contact_ms": 300})
    prompt = prompt_of(150)
    with Legs(prefiller, decoder, prompt) as legs:
        assert_computed(legs.send("decode").result(), alone(prompt), 150, "expired")
        # The offer comes after the end: refused, and the prefiller still answers its own leg.
        assert legs.send("prefill").result().status == 200
    wait_for(lambda: prefiller.metrics().value("baton_handoffs_total", end="refused") == 1,
             scaled(10), "the late offer is refused")
    prefiller.wait_idle()
    decoder.wait_idle()


def test_an_offer_after_the_cancellation(baton):
    prefiller, decoder = pair(baton)
    with Legs(prefiller, decoder, prompt_of(150)) as legs:
        with legs.open("decode") as abandoned:
            legs.wait_known(decoder)
            abandoned.close()
        decoder.wait_idle()
        # Refused, and the prefiller still answers its own leg.
        assert legs.send("prefill").result().status == 200
    wait_for(lambda: prefiller.metrics().value("baton_handoffs_total", end="refused") == 1,
             scaled(10), "the late offer is refused")
    assert decoder.metrics().value("baton_handoffs_total", end="cancelled") == 1
    prefiller.wait_idle()
    decoder.wait_idle()


def test_a_decoder_that_never_comes(baton):
    prefiller, decoder = pair(baton, prefill={"record_ms": 300, "accept_ms": 300})
    with Legs(prefiller, decoder, prompt_of(150)) as legs:
        assert legs.send("prefill").result().status == 200
    wait_for(lambda: prefiller.metrics().value("baton_handoffs_total", end="expired") == 1,
             scaled(10), "the offer expires")
    prefiller.wait_idle()
    decoder.wait_idle()


def test_the_router_says_that_the_prefiller_failed(baton, alone):
    prefiller, decoder = pair(baton, decode={"first_contact_ms": 60_000})
    prompt = prompt_of(150)
    for news_first in (False, True):
        with Legs(prefiller, decoder, prompt) as legs:
            news = lambda: decoder.node.post(f"/handoffs/{legs.handoff}/fail",
                                             {"attempt": 1, "reason": "connection refused"})
            if news_first:
                assert news().status == 200
                request = legs.send("decode")
            else:
                request = legs.send("decode")
                legs.wait_known(decoder)
                assert news().status == 200
            # What was said to have failed before the request came is not waited for at all.
            assert_computed(request.result(), alone(prompt), 150, None if news_first else "failed")
    decoder.wait_idle()


def test_a_decoder_whose_node_the_router_does_not_know(baton, alone):
    """Given as URL=NODE, it finds out at its first-contact deadline; the router said so before."""
    prefiller, decoder = pair(baton, decode={"first_contact_ms": 300})
    legs = [word for flag, engine in (("--prefill", prefiller), ("--decode", decoder))
            for word in (flag, f"http://{engine.ready['listen']}={engine.ready['node']}")]
    router = baton.start(Router, "router", "baton-router", ["--listen", "127.0.0.1:0", *legs])
    warnings = [line for line in router.log.splitlines() if "without @NODE_HTTP" in line]
    assert len(warnings) == 1 and decoder.ready["listen"] in warnings[0], router.log
    prefiller.kill()
    prompt = prompt_of(150)
    assert_computed(router.complete(prompt), alone(prompt), 150, "expired")
    decoder.wait_idle()


def test_bad_news_is_refused(baton):
    decoder = baton.engine("decode")
    post = lambda path, body: decoder.node.post(path, body).status
    assert post("/handoffs/nonsense/fail", {}) == 400
    assert post(f"/handoffs/{uuid.uuid4()}/fail", {"attempt": -1}) == 400
    assert post(f"/handoffs/{uuid.uuid4()}/fail", b"{") == 400
    assert decoder.node.get("/nowhere").status == 404


def test_both_nodes_dial_at_once(baton, alone):
    """Each node prefills for the other in the same moment, from new every time."""
    for round_ in range(3):
        one, other = (baton.engine("both", name=f"{name}{round_}", node="127.0.0.1:0",
                                   node_http="127.0.0.1:0") for name in ("one", "other"))
        prompts = [prompt_of(150, seed=1), prompt_of(160, seed=2)]
        with Legs(one, other, prompts[0]) as there, Legs(other, one, prompts[1]) as back:
            futures = together([lambda legs=legs, role=role: legs.send(role)
                                for legs in (there, back) for role in ("prefill", "decode")])
            answers = [future.result() for future in futures]
        assert_handed_off(answers[1], alone(prompts[0]), 150)
        assert_handed_off(answers[3], alone(prompts[1]), 160)
        assert len(one.debug()["peers"]) == len(other.debug()["peers"]) == 1
        one.wait_idle()
        other.wait_idle()


def test_fetch_hits_hits_in_part_and_misses(baton, alone):
    prefiller, decoder = pair(baton)
    shared = prompt_of(200)  # three whole chunks of 64 and a tail
    with Legs(prefiller, decoder, shared) as legs:
        futures = [legs.send("prefill"), legs.send("decode")]
        assert all(future.result().status == 200 for future in futures)

    def fetch(prompt):
        with Legs(prefiller, decoder, prompt, flow="fetch") as legs:
            return legs.send("decode").result()

    assert_handed_off(fetch(shared), alone(shared), 200)
    part = shared + prompt_of(100, seed=3)
    assert_handed_off(fetch(part), alone(part), 300, crossed_tokens=192, computed=300 - 192)
    miss = prompt_of(90, seed=4)
    assert_computed(fetch(miss), alone(miss), 90, "refused")
    decoder.wait_idle()


def test_two_step_flow(baton, alone):
    """Prefill without a peer; what it answers goes to the decoder as it is."""
    prefiller, decoder = pair(baton)
    prompt = prompt_of(200)
    given = prefill_alone(prefiller, prompt)
    assert given["baton"]["role"] == "decode" and given["baton"]["flow"] == "fetch"
    answer = decoder.api.complete(prompt, kv_transfer_params=given)
    assert_handed_off(answer, alone(prompt), 200)
    decoder.wait_idle()


@pytest.mark.parametrize("decode, words", [
    ({"model": MODEL + ",seed=99"}, ("model", "seed=99")),
    ({"chunk_tokens": 128}, ("chunk", "64", "128")),
    ({"model": MODEL.replace("head_dim=16", "head_dim=8")}, ("head_dim", "16", "8")),
])
def test_nodes_that_must_not_speak(baton, decode, words):
    """Refused at the handshake; both values are in the prefiller's log, and the decoder
    computes."""
    prefiller, decoder = pair(baton, decode={**decode, "first_contact_ms": 500})
    prompt = prompt_of(100)
    with Legs(prefiller, decoder, prompt) as legs:
        prefill, decode_ = legs.send("prefill"), legs.send("decode")
        answer = decode_.result()
        assert prefill.result().status == 200
    assert answer.status == 200
    assert answer.handoff["prompt_tokens_computed"] == 100
    refusals = [line for line in prefiller.log.splitlines() if "handoff ended" in line]
    assert len(refusals) == 1 and all(word in refusals[0] for word in words), prefiller.tail()
    prefiller.wait_idle()
    decoder.wait_idle()


def test_an_offer_with_other_keys(baton, alone):
    """The legs carry different prompts under one handoff: refused naming both keys."""
    prefiller, decoder = pair(baton)
    handoff = str(uuid.uuid4())
    with Legs(prefiller, decoder, prompt_of(100, seed=1), handoff=handoff) as one, \
            Legs(prefiller, decoder, prompt_of(100, seed=2), handoff=handoff) as other:
        prefill, decode = one.send("prefill"), other.send("decode")
        answer = decode.result()
        assert prefill.result().status == 200
    assert_computed(answer, alone(prompt_of(100, seed=2)), 100, "refused")
    assert "key" in answer.handoff["why"]
    prefiller.wait_idle()
    decoder.wait_idle()
