"""Inside vLLM's MultiConnector, with a connector of vLLM's own beside it, which keeps prompts in
files: handoffs in both directions, what an instance keeps for itself, and what the other one
loads."""

import shutil
import types

import pytest

from baton.vllm import BatonConnector
from baton.vllm.orders import NodeAddress
from conftest import tiny_arguments
from engines import Pair
from handed_off import alone, assert_handed_off, assert_idle, counted, request
from offloading import CHUNK, EVICTING, KEPT, TOKENS, evict, host_tokens
from tiny_model import TOKEN_BYTES, prompt

BLOCK_TOKENS = 128


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Where the other connector keeps prompts: a folder for each engine."""
    return [tmp_path_factory.mktemp(f"files-{i}") for i in range(2)]


@pytest.fixture(scope="module")
def both(start, files, tiny_folder):
    """Two engines. Each prefills, decodes and offloads, and has nine blocks for KV."""
    engines = [start(f"multi-{i}", "kv_both", i, beside=[
        {"kv_connector": "ExampleConnector", "kv_role": "kv_both",
         "kv_connector_extra_config": {"shared_storage_path": str(folder)}}],
        arguments=tiny_arguments(tiny_folder, block_size=BLOCK_TOKENS, max_model_len=1100,
                                 max_num_batched_tokens=1100, num_gpu_blocks_override=10))
        for i, folder in enumerate(files)]
    yield [engine.wait_ready() for engine in engines]
    assert [engine.end() for engine in engines] == [0, 0]


def forget(files):
    """What the other connector has kept, which looks at no salt."""
    for folder in files:
        for each in folder.iterdir():
            shutil.rmtree(each)


def test_what_another_connectors_workers_say_is_not_taken_for_ours():
    """A MultiConnector gives each of its connectors what one of them said."""
    connector = object.__new__(BatonConnector)
    connector._scheduler = types.SimpleNamespace(addresses=["before"])
    connector.set_xfer_handshake_metadata({0: object()})
    assert connector._scheduler.addresses == []
    connector.set_xfer_handshake_metadata({0: NodeAddress("127.0.0.1:9001", "")})
    assert connector._scheduler.addresses == ["127.0.0.1:9001"]


@pytest.mark.parametrize("prefiller", [0, 1])
@pytest.mark.parametrize("flow", ["push", "two_step"])
def test_a_handoff(both, files, flow, prefiller):
    pair = Pair(both[prefiller], both[1 - prefiller])
    pair.channel, pair.block_tokens, pair.token_bytes = "local", BLOCK_TOKENS, TOKEN_BYTES
    asked = [request(prompt(300, seed=20_000 + 10 * prefiller + len(flow)))]
    (right,) = alone(pair.prefiller, asked)
    forget(files)
    before = counted(pair.decoder, "baton_loads")
    prefills, decodes = getattr(pair, flow)(asked)
    assert prefills[0]["computed"] == 300 and decodes[0]["tokens"] == right
    assert_handed_off(pair, asked, decodes)
    # By vLLM's own metrics, which sum what each connector inside says.
    assert counted(pair.decoder, "baton_loads") - before == 1
    # The other connector was asked to keep the prompt, by both engines.
    assert all(any(folder.iterdir()) for folder in files)


def test_what_is_evicted_comes_back_from_the_host_tier(both, files):
    engine = both[0]
    first = request(prompt(TOKENS, seed=20_100))
    (once,) = engine.generate([first])
    assert once["computed"] == TOKENS
    evict(engine, prompt(EVICTING, seed=20_101))
    forget(files)
    before = host_tokens(engine)
    (again,) = engine.generate([first])
    assert again["tokens"] == once["tokens"] and again["computed"] == TOKENS - KEPT
    assert host_tokens(engine) - before == KEPT
    assert_idle(engine)


def test_what_the_host_tier_has_not_the_other_connector_loads(both, files):
    """Less than a chunk, which Baton does not keep."""
    engine, tokens = both[1], 200
    assert tokens < CHUNK
    first = request(prompt(tokens, seed=20_200))
    (once,) = engine.generate([first])
    assert once["computed"] == tokens
    evict(engine, prompt(EVICTING, seed=20_201))
    (again,) = engine.generate([first])
    assert again["tokens"] == once["tokens"]
    assert again["computed"] == tokens - tokens // BLOCK_TOKENS * BLOCK_TOKENS
    assert_idle(engine)
