"""The KV crosses while the prompt is still being prefilled."""

import re

from baton import LAYERS, prompt_of, scaled, wait_for
from faults import Hold, in_background, receiving, wait_receiving
from handed_off import assert_handed_off
from legs import Legs


def test_layer_0_is_verified_before_layer_2_is_handed_over(baton, alone, tmp_path):
    hold = Hold(tmp_path / "hold")
    held = min(2, LAYERS - 1)  # the sanitizers' model has two layers
    cluster = baton.cluster(prefill={"program": "tests/faulty_engine", "hold": hold.at_layer(held),
                                     "prefill_chunk": 512})
    prompt = prompt_of(300)
    with in_background(lambda: cluster.complete(prompt)) as request:
        entry = wait_receiving(cluster.decoder, layer=0)
        hold.wait_held()
        assert held not in entry["layers_complete"]
        assert not request.done()
        hold.lift()
        answer = request.result()
    assert_handed_off(answer, alone(prompt), 300)
    cluster.wait_idle()


def test_the_logs_have_a_time_to_first_token_where_there_was_one(baton):
    cluster = baton.cluster()
    prompt = prompt_of(100)
    assert cluster.complete(prompt).status == 200
    assert cluster.router.api.stream_completion(prompt).read().status == 200
    whole, streamed = [line for line in cluster.router.log.splitlines() if "request route=" in line]
    assert "stream=false" in whole and "ttft_ms" not in whole, whole  # held back: not known here
    assert float(re.search(r" ttft_ms=(\S+)", streamed)[1]) > 0

    def engine_said():
        return [line for line in cluster.decoder.log.splitlines() if " ended: " in line]
    assert all(float(re.search(r" first_token_ms=(\S+)", line)[1]) > 0 for line in engine_said())
    said = len(engine_said())
    with Legs(cluster.prefiller, cluster.decoder, prompt, budget_ms=50) as legs:
        # Before first contact: nothing was computed.
        assert legs.send("decode").result().status == 504
    last = engine_said()[-1]
    assert len(engine_said()) == said + 1 and "admitted_ms" not in last, last
    assert "first_token_ms" not in last and float(re.search(r" total_ms=(\S+)", last)[1]) > 0


def test_chunks_of_the_first_step_cross_while_the_second_is_held(baton, alone, tmp_path):
    hold = Hold(tmp_path / "hold")
    cluster = baton.cluster(prefill={"program": "tests/faulty_engine", "hold": hold.at_layer(0),
                                     "prefill_chunk": 128})
    prompt = prompt_of(300)
    with in_background(lambda: cluster.complete(prompt)) as request:
        hold.release()  # layer 0 of the first step; the other layers follow
        hold.wait_held()
        entry = wait_receiving(cluster.decoder)
        # Two chunks of 64 in every layer are all that is computed.
        wait_for(lambda: receiving(cluster.decoder)["segments_verified"] == 2 * LAYERS, scaled(10),
                 "two whole chunks are verified")
        assert entry["segments_total"] == 5 * LAYERS
        assert not request.done()
        hold.lift()
        answer = request.result()
    assert_handed_off(answer, alone(prompt), 300)
    cluster.wait_idle()
