"""A process stopped inside a gather, a publish or a verify-and-scatter; everything it held wanted by
others meanwhile; then continued: no byte that belongs to somebody else by then changes. Wrong bytes
would show as wrong tokens, as a checksum failure, or as KV that was never written (poison)."""

import pytest

from baton import prompt_of, rounds, scaled, wait_for
from client import together
from faults import assert_right_or_clear, in_background, wait_handed_off


def stopped(engine):
    return engine._states() <= {"T"}


def others(cluster, alone, count, seed):
    """Requests that want the blocks, slots and staging memory of whoever stands still."""
    prompts = [prompt_of(150 + 40 * i, seed=1000 * seed + i) for i in range(count)]
    expected = [alone(prompt) for prompt in prompts]
    for answer, tokens in zip(together([lambda p=p: cluster.complete(p) for p in prompts]), expected):
        assert_right_or_clear(answer, tokens)


@pytest.mark.parametrize("mode", ["retain", "transient"])
@pytest.mark.parametrize("inside", ["gather", "publish"])
def test_sender(baton, alone, inside, mode):
    for round_ in range(rounds(3)):
        cluster = baton.cluster(
            prefillers=2, router={"health_period_ms": 200, "budget_ms": 20_000},
            # Room for little: what is free is used again at once.
            prefill=[{"program": "tests/faulty_engine", "fault": f"stop={inside},at={4 + 7 * round_}",
                      "kv_blocks": 64, "host_tier": "1MiB", mode: True}, {mode: True}],
            decode={"kv_blocks": 96})
        sender = cluster.prefiller
        prompt = prompt_of(700, seed=round_)
        with in_background(lambda: cluster.complete(prompt)) as request:
            wait_for(lambda: stopped(sender) or request.done(), scaled(20), "it stopped itself")
            if not stopped(sender):  # round robin began with the other: the next one is its
                assert request.result().tokens == alone(prompt)
                with in_background(lambda: cluster.complete(prompt)) as second:
                    wait_for(lambda: stopped(sender), scaled(20), "it stopped itself")
                    sender_stopped(cluster, alone, sender, second, prompt, round_)
            else:
                sender_stopped(cluster, alone, sender, request, prompt, round_)
        for process in (cluster.router, *cluster.engines):
            assert not process.end()
            baton.processes.remove(process)


def sender_stopped(cluster, alone, sender, request, prompt, round_):
    assert request.result().tokens == alone(prompt)  # the decoder noticed and computed it
    others(cluster, alone, 6, round_)
    sender.resume()
    wait_handed_off(cluster, prompt_of(90), alone(prompt_of(90)))
    others(cluster, alone, 6, round_ + 100)
    sender.wait_idle()
    cluster.wait_idle()
    for decoder in cluster.decoders:
        assert decoder.metrics().value("baton_checksum_failures_total", where="host") == 0


def test_receiver(baton, alone):
    for round_ in range(rounds(3)):
        cluster = baton.cluster(
            decoders=2, router={"health_period_ms": 200, "budget_ms": 20_000},
            prefill={"host_tier": "1MiB"},
            decode=[{"program": "tests/faulty_engine", "fault": f"stop=scatter,at={3 + 5 * round_}",
                     "kv_blocks": 64}, {"kv_blocks": 64}])
        receiver = cluster.decoder
        prompt = prompt_of(700, seed=round_)
        with in_background(lambda: cluster.complete(prompt)) as request:
            wait_for(lambda: stopped(receiver) or request.done(), scaled(20), "it stopped itself")
            if not stopped(receiver):
                assert request.result().tokens == alone(prompt)
                with in_background(lambda: cluster.complete(prompt)) as second:
                    wait_for(lambda: stopped(receiver), scaled(20), "it stopped itself")
                    receiver_stopped(cluster, alone, receiver, second, prompt, round_)
            else:
                receiver_stopped(cluster, alone, receiver, request, prompt, round_)
        for process in (cluster.router, *cluster.engines):
            assert not process.end()
            baton.processes.remove(process)


def receiver_stopped(cluster, alone, receiver, request, prompt, round_):
    # The sender's slots go to others while the receiver is in the middle of reading one.
    wait_for(lambda: not any(h["state"] == "sending" for h in cluster.prefiller.handoffs()),
             scaled(5), "the sender noticed")
    others(cluster, alone, 4, round_)
    receiver.resume()
    assert_right_or_clear(request.result(), alone(prompt))
    others(cluster, alone, 6, round_ + 100)
    wait_handed_off(cluster, prompt_of(90), alone(prompt_of(90)))
    cluster.wait_idle()
