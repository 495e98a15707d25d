import dataclasses
import types

import pytest

from baton.vllm import BatonConnector, config
from baton.vllm.address import of_rank, of_rank_path
from conftest import ROOT


def test_defaults():
    assert config.parse({}) == config.Options()


def test_what_is_set_is_taken():
    options = config.parse({"node": "127.0.0.1:9001", "chunk_tokens": 512, "huge_pages": True})
    assert (options.node, options.chunk_tokens, options.huge_pages) == ("127.0.0.1:9001", 512, True)


@pytest.mark.parametrize("extra, said", [
    ({"nodes": "127.0.0.1:1"}, "no option 'nodes': is 'node' meant"),
    ({"first_contact": 5}, "is 'first_contact_ms' meant"),
    ({"completely_other": 5}, "there are node, node_http"),
    ({"chunk_tokens": "256"}, "chunk_tokens is '256': expected int"),
    ({"huge_pages": 1}, "huge_pages is 1: expected bool"),
    ({"max_handoffs": True}, "max_handoffs is True: expected int"),
    ({"channel": "rdma"}, "channel is 'rdma': expected one of auto, local, tcp, ucx"),
    ({"tier_policy": "fifo"}, "tier_policy is 'fifo': expected one of age-per-use, lru, s3fifo"),
    ({"budget_ms": 0}, "budget_ms is 0: expected more than 0"),
    ({"chunk_tokens": -1}, "chunk_tokens is -1: expected more than 0"),
    ({"node": "9001"}, "node is '9001': expected host:port"),
    ({"node": "127.0.0.1:70000"}, "node is '127.0.0.1:70000': expected a port from 0 to 65535"),
    ({"node_http": "::1:9101"}, "node_http is '::1:9101': expected host:port, or [v6 address]"),
    ({"store": "9100"}, "store is '9100': expected host:port"),
    ({"peers": "127.0.0.1:1,nobody"}, "peers is '127.0.0.1:1,nobody': expected host:port"),
    ({"advertise": "a host"}, "advertise is 'a host': expected host:port"),
])
def test_what_is_wrong_is_named(extra, said):
    with pytest.raises(ValueError) as error:
        config.parse(extra)
    assert said in str(error.value)


@pytest.mark.parametrize("extra", [
    {"node": "[::1]:9001"}, {"node": "host.example:0"}, {"advertise": "host.example"},
    {"advertise": "[::1]"}, {"advertise": "10.0.0.1:9001"}, {"node_http": ""}])
def test_addresses_as_they_may_be(extra):
    assert dataclasses.asdict(config.parse(extra)).items() >= extra.items()


def test_each_rank_has_a_port():
    assert config.parse({"node": "127.0.0.1:65532"}, ranks=4)
    with pytest.raises(ValueError, match="expected a port from 0 to 65532"):
        config.parse({"node": "127.0.0.1:65533"}, ranks=4)


@pytest.mark.parametrize("address, rank, expected", [
    ("127.0.0.1:9001", 0, "127.0.0.1:9001"), ("127.0.0.1:9001", 3, "127.0.0.1:9004"),
    ("127.0.0.1:0", 3, "127.0.0.1:0"), ("[::1]:9001", 1, "[::1]:9002"), ("host", 1, "host"),
    ("", 1, ""),
])
def test_a_rank_has_an_address_of_its_own(address, rank, expected):
    assert of_rank(address, rank) == expected


@pytest.mark.parametrize("device, rank, expected", [
    ("/data/kv:1GiB", 0, "/data/kv:1GiB"), ("/data/kv:1GiB", 2, "/data/kv.2:1GiB"),
    ("no size", 1, "no size"),
])
def test_a_rank_has_a_device_of_its_own(device, rank, expected):
    assert of_rank_path(device, rank) == expected


def test_every_option_is_in_the_readme_with_default_and_meaning():
    assert all(field.metadata["meaning"] for field in config.FIELDS.values())
    assert config.table() in (ROOT / "examples/vllm/README.md").read_text()


def test_options_are_judged_before_there_is_a_connector():
    """By the hooks that vLLM asks while it starts."""
    wrong = {"node": "9001"}
    engine = types.SimpleNamespace(
        parallel_config=types.SimpleNamespace(tensor_parallel_size=1),
        kv_transfer_config=types.SimpleNamespace(kv_connector_extra_config=wrong))
    for judge, asked in ((BatonConnector.requires_piecewise_for_cudagraph, wrong),
                         (BatonConnector.get_required_kvcache_layout, engine)):
        with pytest.raises(ValueError, match="node is '9001'"):
            judge(asked)
    engine.kv_transfer_config.kv_connector_extra_config = {}
    assert BatonConnector.get_required_kvcache_layout(engine) is None
    assert BatonConnector.requires_piecewise_for_cudagraph({})
