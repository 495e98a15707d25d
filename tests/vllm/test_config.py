import pytest

from baton.vllm import config
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
    ({"budget_ms": 0}, "budget_ms is 0: expected more than 0"),
    ({"chunk_tokens": -1}, "chunk_tokens is -1: expected more than 0"),
])
def test_what_is_wrong_is_named(extra, said):
    with pytest.raises(ValueError) as error:
        config.parse(extra)
    assert said in str(error.value)


@pytest.mark.parametrize("address, rank, expected", [
    ("127.0.0.1:9001", 0, "127.0.0.1:9001"), ("127.0.0.1:9001", 3, "127.0.0.1:9004"),
    ("127.0.0.1:0", 3, "127.0.0.1:0"), ("[::1]:9001", 1, "[::1]:9002"), ("host", 1, "host"),
    ("", 1, ""),
])
def test_a_rank_has_an_address_of_its_own(address, rank, expected):
    assert config.of_rank(address, rank) == expected


def test_every_option_is_in_the_readme_with_default_and_meaning():
    assert all(field.metadata["meaning"] for field in config.FIELDS.values())
    assert config.table() in (ROOT / "examples/vllm/README.md").read_text()
