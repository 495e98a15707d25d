"""Tests of the Python package, in a venv with vLLM: run.sh makes it. The engines start once and
serve all tests."""

import os
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "perf/vllm"))  # engines as processes, and prompts, are the same there

import tiny_model  # noqa: E402
from corruption import FaultFile  # noqa: E402
from engine import baton  # noqa: E402
from engines import Engine, Pair  # noqa: E402
from handed_off import TOKEN_ELEMENTS  # noqa: E402
from ranks import make_rank  # noqa: E402


def model_folder(dtype="float32"):
    return os.environ.get("BATON_VLLM_MODELS", str(ROOT / "build-vllm")) + f"/smollm2-{dtype}"


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """Starts an engine; all end with the session, and must end well."""
    logs = tmp_path_factory.mktemp("engines")
    started = []

    def make(name, role=None, core=None, extra=None, policy="recompute", beside=(), **setup):
        """`extra`: our connector's options; `beside`: further connectors, in one MultiConnector
        with ours as the first."""
        connector = baton(role, policy, **(extra or {})) if role else None
        if beside:
            connector = {"kv_connector": "MultiConnector", "kv_role": role,
                         "kv_load_failure_policy": policy,
                         "kv_connector_extra_config": {"connectors": [connector, *beside]}}
        engine = Engine(name, {"model": model_folder(), "connector": connector, **setup},
                        logs / f"{name}.log", core)
        started.append(engine)
        return engine

    yield make
    codes = {engine.name: engine.end() for engine in started}
    assert set(codes.values()) <= {0}, codes


@pytest.fixture(scope="session")
def tokenizer():
    return Tokenizer.from_file(model_folder() + "/tokenizer.json")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model.save(folder)
    return str(folder)


def tiny_arguments(folder, **further):
    return {"model": folder, "tokenizer": model_folder(), "block_size": 64, "max_model_len": 1024,
            "max_num_batched_tokens": 1024, "gpu_memory_utilization": 0.1, **further}


@pytest.fixture(scope="session", params=["local", "tcp"])
def tiny(request, start, tiny_folder, tmp_path_factory):
    """A prefiller and a decoder of the tiny model."""
    setup = {"extra": {"channel": request.param}, "arguments": tiny_arguments(tiny_folder)}
    faults = FaultFile(tmp_path_factory.mktemp("faults") / request.param)
    prefiller = start(f"tiny-prefiller-{request.param}", "kv_producer", 0, **setup)
    decoder = start(f"tiny-decoder-{request.param}", "kv_consumer", 1, faults=faults.spec, **setup)
    engines = [prefiller, decoder]
    two = Pair(*(engine.wait_ready() for engine in engines))
    two.channel, two.faults = request.param, faults
    yield two
    assert [engine.end() for engine in engines] == [0, 0]


@pytest.fixture(scope="session")
def small(start):
    """An instance that offloads, with nine blocks for KV: a prompt that needs them all evicts what
    was there, and two requests that need more than these preempt each other."""
    engine = start("small", "kv_both", 0, extra={"host_tier_mib": 1024}, arguments={
        "max_model_len": 1100, "num_gpu_blocks_override": 10, "max_num_batched_tokens": 1100,
        # Prompts advance side by side, admitted without room for all of both.
        "long_prefill_token_threshold": 300, "scheduler_reserve_full_isl": False}).wait_ready()
    yield engine
    assert engine.end() == 0


@pytest.fixture
def ranks():
    made = []

    def make(fill=0, **options):
        made.append(make_rank(fill, **options))
        return made[-1]

    yield make
    for rank in made:
        rank.side.close()
        assert rank.side.node.closed


# The channel, vLLM's block size, and how many tokens it computes in a step: prefill in one step, or
# in chunks of 256.
PAIRS = {"local": ("local", 128, 2048), "tcp": ("tcp", 32, 256)}


@pytest.fixture(scope="session", params=PAIRS)
def pair(request, start):
    """A prefiller and a decoder. The tests of one pair run one after the other, and its engines end
    before the next two start."""
    channel, block_tokens, step_tokens = PAIRS[request.param]
    setup = {"extra": {"channel": channel},
             "arguments": {"block_size": block_tokens, "max_num_batched_tokens": step_tokens}}
    prefiller = start(f"prefiller-{channel}", "kv_producer", 0, **setup)
    decoder = start(f"decoder-{channel}", "kv_consumer", 1, **setup)
    two = Pair(prefiller.wait_ready(), decoder.wait_ready())
    two.channel, two.block_tokens, two.token_bytes = channel, block_tokens, TOKEN_ELEMENTS * 4
    yield two
    assert [engine.end() for engine in (prefiller, decoder)] == [0, 0]
