"""Instances that share a store: a node without an engine, which outlives them."""

import time

import pytest

import baton
import tiny_model
from conftest import tiny_arguments
from handed_off import assert_idle, request

TOKENS = 600
CHUNK = 256
DEADLINE_S = 20.0


class Store:
    def __init__(self):
        config = baton.NodeConfig()
        config.store = True
        config.retained_bytes = 64 << 20
        self.node = baton.Node(config)

    @property
    def address(self):
        return self.node.advertised

    def chunks(self):
        for line in self.node.metrics().splitlines():
            if line.startswith("baton_tier_chunks{"):
                return float(line.split()[-1])
        return 0.0

    def wait(self, chunks):
        end = time.monotonic() + DEADLINE_S
        while self.chunks() < chunks:
            assert time.monotonic() < end, self.chunks()
            time.sleep(0.02)


@pytest.fixture
def store():
    it = Store()
    yield it
    it.node.close()


def test_what_one_instance_computed_another_loads(start, tiny_folder, store):
    setup = {"extra": {"store": store.address, "host_tier_mib": 16},
             "arguments": tiny_arguments(tiny_folder)}
    ids = tiny_model.prompt(TOKENS, seed=9700)
    asked = request(ids, salt="shared store")
    first = start("store-first", "kv_both", 0, **setup).wait_ready()
    (once,) = first.generate([asked])
    assert once["computed"] == TOKENS
    assert_idle(first)
    store.wait(TOKENS // CHUNK)
    assert first.end() == 0  # the store outlives it
    second = start("store-second", "kv_both", 0, **setup).wait_ready()
    (again,) = second.generate([asked])
    assert again["tokens"] == once["tokens"]
    assert again["computed"] == TOKENS - TOKENS // CHUNK * CHUNK
    # Under another salt there is nothing of it.
    (other,) = second.generate([request(ids, salt="another tenant")])
    assert other["tokens"] == once["tokens"] and other["computed"] == TOKENS
    assert_idle(second)
    # What it keeps means something else from now on: nor is the store's used any more.
    assert second.call("reset")
    (after,) = second.generate([asked])
    assert after["tokens"] == once["tokens"] and after["computed"] == TOKENS
    assert_idle(second)
    assert second.end() == 0
