"""The native module alone: no engine, and no vLLM."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

import baton
from nodes import BLOCKS, CHUNK_TOKENS, LAYERS, SmallNode, common, wait_for

BLOCKS_OF_100 = [5, 3, 60, 7, 21, 0, 44]


def hand_off(sender, receiver, request, blocks, there, held=0, flow="push"):
    decode = baton.DecodeSession(node=receiver.node, flow=flow,
                                 peer=[sender.node.address], **request)
    prefill = baton.PrefillSession(node=sender.node, peer=[receiver.node.address], **request)
    prefill.begin(blocks[:4], 0)
    prefill.extend(blocks[4:])
    for tokens in (50, 100):
        for layer in range(LAYERS):
            prefill.layer_ready(layer, tokens)
    prefill.finish()
    assert wait_for(lambda: decode.poll()[0] == "offered", receiver.node), decode.poll()
    assert decode.poll()[1] == 100
    decode.accept(there, held)
    assert wait_for(lambda: decode.poll()[0] in ("loaded", "failed"), receiver.node)
    return prefill, decode


@pytest.mark.parametrize("channel", ["local", "tcp"])
def test_what_is_sent_arrives_and_nothing_else_is_touched(channel):
    sender, receiver = SmallNode(channel), SmallNode(channel, poison=True)
    there = [9, 8, 30, 1, 2, 63, 40]
    prefill, decode = hand_off(sender, receiver, common(), BLOCKS_OF_100, there)
    assert decode.poll() == ("loaded", 100, "")
    for layer in range(LAYERS):
        for here, to in zip(BLOCKS_OF_100, there):
            assert receiver.block(layer, to) == sender.block(layer, here)
        for other in set(range(BLOCKS)) - set(there):
            assert set(receiver.block(layer, other)) == {0xEE}
    assert prefill.wait_released(10)
    decode.done()
    assert decode.wait_released(10)
    report = decode.report()
    assert (report["end"], report["tokens"], report["bytes"], report["transport"]) == (
        "committed", 100, 7 * 1024 * LAYERS, channel)
    assert f'baton_handoffs_total{{channel="{channel}",end="committed"}} 1' in \
        receiver.node.metrics()


def test_what_the_engine_holds_is_not_written():
    sender, receiver = SmallNode(), SmallNode(poison=True)
    there = list(range(7))
    _, decode = hand_off(sender, receiver, common(), BLOCKS_OF_100, there, held=48)
    assert decode.poll()[0] == "loaded"
    for layer in range(LAYERS):
        assert set(receiver.block(layer, 2)) == {0xEE}
        assert receiver.block(layer, 3) == sender.block(layer, BLOCKS_OF_100[3])


def test_a_wait_leaves_the_interpreter_to_others():
    """The thread that would end the wait can only run if the waiting one holds no GIL."""
    sender, receiver = SmallNode(), SmallNode()
    request = common()
    decode = baton.DecodeSession(node=receiver.node, flow="push", peer=[sender.node.address],
                                 **request)
    waited = []
    thread = threading.Thread(target=lambda: waited.append(decode.wait_released(20)))
    thread.start()
    decode.abort("enough")
    thread.join(20)
    assert waited == [True]


def test_layers_can_be_waited_for():
    sender, receiver = SmallNode(), SmallNode(poison=True)
    _, decode = hand_off(sender, receiver, common(), BLOCKS_OF_100, list(range(7)))
    for layer in range(LAYERS):
        decode.wait_layer(layer, 10)
    fresh = baton.DecodeSession(node=receiver.node, flow="push", peer=[], **common())
    with pytest.raises(baton.Error) as error:
        fresh.wait_layer(0, 0.01)
    assert error.value.code == "deadline_exceeded"


def test_a_notice_names_who_has_changed():
    node = SmallNode()
    session = baton.PrefillSession(node=node.node, peer=["127.0.0.1:1"], **common(tag=77))
    session.abort("it is over")
    assert session.wait_released(10) and session.released
    assert node.node.wait_notice(10)
    assert 77 in node.node.take_notices()
    assert node.node.take_notices() == []
    began = time.monotonic()
    assert not node.node.wait_notice(0.02) and time.monotonic() - began >= 0.02


def test_errors_have_their_codes_name():
    node = SmallNode()
    cases = [({"handoff": "x"}, "invalid_argument"), ({"peer": ["nowhere"]}, "invalid_argument"),
             ({"budget_s": 0.0}, "invalid_argument"), ({"tokens": []}, "invalid_argument"),
             ({"peer": ["127.0.0.1:1", "127.0.0.1:2"]}, "invalid_argument")]
    for changed, code in cases:
        with pytest.raises(baton.Error) as error:
            baton.PrefillSession(node=node.node, **{**common(), "peer": ["127.0.0.1:1"],
                                                    **changed})
        assert error.value.code == code, (changed, error.value)
    request = common()
    first = baton.DecodeSession(node=node.node, flow="push", peer=[], **request)
    with pytest.raises(baton.Error) as error:
        baton.DecodeSession(node=node.node, flow="push", peer=[], **request)
    assert error.value.code == "exists" and first.poll()[0] == "waiting"
    with pytest.raises(baton.Error) as error:
        baton.DecodeSession(node=node.node, flow="pull", peer=[], **common())
    assert "'pull'" in str(error.value)


def test_a_node_outlives_its_sessions():
    node = SmallNode()
    session = baton.PrefillSession(node=node.node, peer=["127.0.0.1:1"], **common())
    with pytest.raises(baton.Error) as error:
        node.node.close()
    assert "1 sessions" in str(error.value)
    del session
    node.node.close()
    assert node.node.closed
    with pytest.raises(baton.Error) as error:
        node.node.address
    assert error.value.code == "unavailable"


def test_dropping_all_at_once_in_any_order():
    node = SmallNode()
    session = baton.PrefillSession(node=node.node, peer=["127.0.0.1:1"], **common())
    memory = node.memory
    del node
    assert not session.report()["end"] or session.report()["end"] != "committed"
    del session
    del memory


def test_wrong_options_are_named():
    with pytest.raises(baton.Error) as error:
        SmallNode(chunk_tokens=CHUNK_TOKENS + 1)
    assert "chunk_tokens is 33" in str(error.value)
    with pytest.raises(baton.Error):
        SmallNode(heartbeat_s=0.0)
    with pytest.raises(AttributeError):
        SmallNode(no_such_option=1)


def test_what_is_live_can_be_looked_at():
    node = SmallNode()
    request = common()
    session = baton.DecodeSession(node=node.node, flow="push", peer=[], **request)
    (live,) = json.loads(node.node.debug())["handoffs"]
    assert (live["id"], live["role"], live["claimed"]) == (request["handoff"], "receiver", True)
    session.abort("enough")
    assert session.wait_released(10) and json.loads(node.node.debug())["handoffs"] == []


def test_keys_chain():
    node = SmallNode().node
    keys = node.chunk_keys(list(range(100)))
    assert len(keys) == 4 and len(set(keys)) == 4 and all(len(key) == 64 for key in keys)
    assert node.chunk_keys(list(range(80)))[:2] == keys[:2]
    assert node.chunk_keys(list(range(80)))[2] != keys[2]
    assert node.chunk_keys(list(range(100)), salt="tenant")[0] != keys[0]


def test_the_doctor_says_what_works():
    environment = {name: value for name, value in os.environ.items() if name != "BATON_LOG_LEVEL"}
    said = subprocess.run([sys.executable, "-m", "baton.doctor"], capture_output=True, text=True,
                          timeout=120, env=environment)
    assert said.returncode == 0 and said.stderr == ""  # not a line of the nodes between its own
    lines = dict(line.split(None, 1) for line in said.stdout.splitlines() if line[0] != "h")
    assert lines["tcp"] == "works (tcp)" and lines["local"] == "works (local)"
    assert lines["baton"].startswith(baton.__version__)


def test_the_doctor_says_what_does_not_work(monkeypatch, capsys):
    from baton import doctor

    def broken(channel):
        raise RuntimeError("no way")

    monkeypatch.setenv("BATON_LOG_LEVEL", "info")  # as it is
    monkeypatch.setattr(doctor, "try_channel", broken)
    assert doctor.main() == 1
    assert "tcp         does not work: no way" in capsys.readouterr().out


def test_a_log_level_is_one_of_those():
    from baton._native import set_log_level

    with pytest.raises(baton.Error, match="level is 'loud': expected one of debug"):
        set_log_level("loud")


def test_chunks_are_dropped_and_counted():
    it = SmallNode()
    session = baton.PrefillSession(node=it.node, peer=[], lease_s=0.0, **common(tokens=64))
    session.begin([0, 1, 2, 3], 0)
    for layer in range(LAYERS):
        session.layer_ready(layer, 64)
    session.finish()
    assert session.wait_released(20)
    del session
    assert it.node.drop_chunks(20) == 2 and it.node.drop_chunks(20) == 0
    with pytest.raises(baton.Error, match="timeout_s is 0"):
        it.node.drop_chunks(0)
