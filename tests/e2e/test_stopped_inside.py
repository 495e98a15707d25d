"""A process stopped inside a gather, a publish or a verify-and-scatter; everything it held wanted
by others meanwhile; then continued: no byte that belongs to somebody else by then changes. Wrong
bytes would show as wrong tokens, as a checksum failure, or as KV that was never written
(poison)."""

import pytest

from baton import KV_BYTES_PER_TOKEN, prompt_of, rounds, scaled, wait_for
from client import together
from faults import assert_right_or_clear, in_background, wait_handed_off
from handed_off import assert_handed_off
from legs import Legs, prefill_alone

CHUNK = 64
# The prompt that is under way when the process stops: 7 chunks, of the 8 that a host tier holds.
# Room for little: what is free is used again at once.
TOKENS = 430
HOST_TIER = f"{8 * CHUNK * KV_BYTES_PER_TOKEN // 1024}KiB"


def stopped(engine):
    return engine._states() <= {"T"}


def others(cluster, alone, count, seed):
    """Requests that want the blocks, slots and staging memory of whoever stands still."""
    prompts = [prompt_of(150 + 40 * i, seed=1000 * seed + i) for i in range(count)]
    expected = [alone(prompt) for prompt in prompts]
    answers = together([lambda p=p: cluster.complete(p) for p in prompts])
    for answer, tokens in zip(answers, expected):
        assert_right_or_clear(answer, tokens)


def with_one_stopped(cluster, alone, victim, prompt, then):
    """Sends the prompt until `victim` has stopped itself in the midst of it; then(request)."""
    with in_background(lambda: cluster.complete(prompt)) as request:
        wait_for(lambda: stopped(victim) or request.done(), scaled(20), "it stopped itself")
        if stopped(victim):
            return then(request)
        assert request.result().tokens == alone(prompt)
    # Round robin began with the other: the next one is its.
    with in_background(lambda: cluster.complete(prompt)) as request:
        wait_for(lambda: stopped(victim), scaled(20), "it stopped itself")
        then(request)


def end(baton, cluster):
    for process in (cluster.router, *cluster.engines):
        assert not process.end()
        baton.processes.remove(process)


def failures(engines, where):
    return sum(each.metrics().value("baton_checksum_failures_total", where=where)
               for each in engines)


@pytest.mark.parametrize("mode", ["retain", "transient"])
@pytest.mark.parametrize("inside", ["gather", "publish"])
def test_sender(baton, alone, inside, mode):
    for round_ in range(rounds(3)):
        cluster = baton.cluster(
            prefillers=2, router={"health_period_ms": 200, "budget_ms": 20_000},
            prefill=[{"program": "tests/faulty_engine",
                      "fault": f"stop={inside},at={4 + 7 * round_}", "kv_blocks": 64,
                      "host_tier": HOST_TIER, mode: True}, {mode: True}],
            decode={"kv_blocks": 96, "retain_received": True, "host_tier": HOST_TIER})
        sender, decoder = cluster.prefiller, cluster.decoder
        prompt = prompt_of(TOKENS, seed=round_)

        def meanwhile(request):
            assert request.result().tokens == alone(prompt)  # the decoder noticed and computed it
            others(cluster, alone, 6, round_)
            sender.resume()
            wait_handed_off(cluster, prompt_of(90), alone(prompt_of(90)))
            others(cluster, alone, 6, round_ + 100)
            cluster.wait_idle()
        with_one_stopped(cluster, alone, sender, prompt, meanwhile)
        # What is transient cannot be fetched: it is computed and sent again.
        served_again(sender, decoder, prompt, alone, fetched if mode == "retain" else pushed)
        cluster.wait_idle()
        assert failures([decoder], "handoff") == failures([decoder], "host") == 0
        end(baton, cluster)


def pushed(sender, decoder, prompt):
    with Legs(sender, decoder, prompt) as legs:
        prefilled, decoded = legs.send("prefill"), legs.send("decode")
        assert prefilled.result().status == 200
        return decoded.result()


def fetched(sender, decoder, prompt):
    kept = prefill_alone(sender, prompt)
    return decoder.api.complete(prompt, kv_transfer_params=kept)


def served_again(sender, decoder, prompt, alone, handed_off):
    """The prompt that was under way, from the sender that stood still: all of it crosses, by FETCH
    out of what the sender retained; and once more out of the decoder's host tier."""
    filler = prompt_of(8 * CHUNK, seed=99)  # what the decoder kept before leaves its tier
    assert_handed_off(pushed(sender, decoder, filler), alone(filler), len(filler))
    loads = lambda: decoder.metrics().value("baton_copied_bytes_total", why="tier_load")
    before = loads()
    assert_handed_off(handed_off(sender, decoder, prompt), alone(prompt), len(prompt))
    assert loads() == before
    assert_handed_off(handed_off(sender, decoder, prompt), alone(prompt), len(prompt),
                      crossed_tokens=0)
    assert loads() == before + len(prompt) * KV_BYTES_PER_TOKEN


def test_receiver(baton, alone):
    for round_ in range(rounds(3)):
        cluster = baton.cluster(
            decoders=2, router={"health_period_ms": 200, "budget_ms": 20_000},
            prefill={"host_tier": HOST_TIER}, kv_blocks=64,
            decode=[{"program": "tests/faulty_engine", "fault": f"stop=scatter,at={3 + 5 * round_}",
                     "retain_received": True, "host_tier": HOST_TIER}, {}])
        receiver = cluster.decoder
        prompt = prompt_of(TOKENS, seed=round_)

        def meanwhile(request):
            # The sender's slots go to others while the receiver is in the middle of reading one.
            wait_for(lambda: not any(h["state"] == "sending" for h in cluster.prefiller.handoffs()),
                     scaled(5), "the sender noticed")
            others(cluster, alone, 4, round_)
            receiver.resume()
            assert_right_or_clear(request.result(), alone(prompt))
            others(cluster, alone, 6, round_ + 100)
            wait_handed_off(cluster, prompt_of(90), alone(prompt_of(90)))
            cluster.wait_idle()
        with_one_stopped(cluster, alone, receiver, prompt, meanwhile)
        # It may have read a slot that was another's by then.
        before = failures([receiver], "handoff")
        served_again(cluster.prefiller, receiver, prompt, alone, fetched)
        cluster.wait_idle()
        assert failures([receiver], "handoff") == before
        assert failures(cluster.decoders, "host") == failures(cluster.decoders, "retain") == 0
        end(baton, cluster)
