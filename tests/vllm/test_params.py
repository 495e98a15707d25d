import uuid

import pytest

from baton.vllm import params

ID = "11111111-2222-3333-4444-555555555555"


def test_what_the_router_sends():
    transfer = params.parse({"baton": {"handoff": ID, "attempt": 2, "role": "decode",
                                       "flow": "fetch", "peer": ["127.0.0.1:9001"],
                                       "budget_ms": 1500, "salt": "s"}})
    assert transfer == params.Transfer("decode", ID, 2, "fetch", ("127.0.0.1:9001",), 1.5, "s")


@pytest.mark.parametrize("given", [None, {}, {"do_remote_prefill": False}, {"else": 1}])
def test_no_handoff_is_asked_for(given):
    assert params.parse(given) is None


def test_a_stock_proxy_asks_a_prefiller_and_its_answer_names_the_chunks_to_the_decoder():
    asked = params.parse({"do_remote_decode": True, "do_remote_prefill": False,
                          "remote_engine_id": None, "remote_block_ids": None,
                          "remote_host": None, "remote_port": None})
    assert asked.two_step
    answer = params.for_decoder(asked, "engine", ["127.0.0.1:9001"], 600)
    decode = params.Transfer("decode", asked.handoff, 1, "fetch", ("127.0.0.1:9001",))
    assert params.parse(answer) == decode
    # A proxy that knows NIXL's fields only.
    del answer["baton"]
    assert params.parse(answer) == decode


def test_another_engines_request_id_is_one_handoff():
    given = {"do_remote_prefill": True, "remote_host": "::1", "remote_port": 9001,
             "remote_request_id": "prefill-7"}
    one, two = params.parse(given), params.parse(given)
    assert one == two and one.peer == ("[::1]:9001",) and uuid.UUID(one.handoff)


def test_a_v6_address_is_taken_apart_and_joined():
    transfer = params.Transfer("prefill", ID)
    answer = params.for_decoder(transfer, "engine", ["[::1]:9001", "[::1]:9002"], 1)
    assert (answer["remote_host"], answer["remote_port"]) == ("::1", 9001)
    assert params.parse(answer).peer == ("[::1]:9001", "[::1]:9002")
    del answer["baton"]
    assert params.parse(answer).peer == ("[::1]:9001",)


@pytest.mark.parametrize("given, said", [
    ("x", "kv_transfer_params is 'x'"),
    ({"baton": 1}, "baton is 1: expected an object"),
    ({"baton": {"role": "both"}}, "role is 'both'"),
    ({"baton": {"role": "decode"}}, "handoff is '': expected a UUID"),
    ({"baton": {"role": "decode", "handoff": 7}}, "handoff is 7: expected str"),
    ({"baton": {"role": "decode", "handoff": ID, "flow": "pull"}}, "flow is 'pull'"),
    ({"baton": {"role": "decode", "handoff": ID, "peer": "a:1"}}, "peer is 'a:1': expected list"),
    ({"baton": {"role": "decode", "handoff": ID, "peer": [1]}}, "peer is [1]: expected texts"),
    ({"baton": {"role": "decode", "handoff": ID, "attempt": 0}}, "attempt 0: expected"),
    ({"baton": {"role": "decode", "handoff": ID, "budget_ms": -1}},
     "budget_ms -1 and attempt 1: expected at least 0"),
    ({"baton": {"role": "decode", "handoff": ID, "peer": ["9001"]}},
     "peer has '9001': expected host:port"),
    ({"do_remote_prefill": True}, "with remote_host None"),
    ({"do_remote_prefill": True, "remote_host": "a b", "remote_port": 1, "remote_request_id": "x"},
     "remote_host 'a b', remote_port 1: expected host:port"),
])
def test_what_is_wrong_is_named(given, said):
    with pytest.raises(params.ParamsError) as error:
        params.parse(given)
    assert said in str(error.value)
