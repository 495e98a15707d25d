"""The KV crosses while the prompt is still being prefilled."""

from baton import LAYERS, prompt_of, scaled, wait_for
from faults import Hold, in_background, receiving, wait_receiving
from handed_off import assert_handed_off


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
