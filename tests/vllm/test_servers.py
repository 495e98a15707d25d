"""Two real servers, `vllm serve`: through baton-router with the official client, and the two-step
flow as stock proxies do it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import openai
import pytest

from conftest import ROOT, model_folder
from http_of import free_ports, get
from prompts import prompt

ANSWER = 16
PORTS = ("ROUTER", "PREFILL", "DECODE", "PREFILL_NODE", "PREFILL_NODE_HTTP", "DECODE_NODE",
         "DECODE_NODE_HTTP")


def client_of(url):
    return openai.OpenAI(base_url=url + "/v1", api_key="none", timeout=300, max_retries=0)


class Server:
    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"

    def client(self):
        return client_of(self.url)

    def counter(self, name, **labels):
        """The sum of a counter's series with these labels, from vLLM's own /metrics."""
        total = 0.0
        for found in re.finditer(rf"^{re.escape(name)}{{([^}}]*)}} (\S+)$",
                                 get(self.url + "/metrics"), re.MULTILINE):
            if all(f'{key}="{value}"' in found[1] for key, value in labels.items()):
                total += float(found[2])
        return total

    def loaded_tokens(self):
        return self.counter("vllm:prompt_tokens_by_source_total", source="external_kv_transfer")

    def computed_tokens(self):
        """Tokens of prompts that it had nobody's KV for."""
        return self.counter("vllm:prompt_tokens_by_source_total", source="local_compute")


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """What examples/vllm/start.sh starts."""
    logs = tmp_path_factory.mktemp("servers")
    ports = dict(zip(PORTS, free_ports(len(PORTS))))
    started = subprocess.Popen(
        ["bash", str(ROOT / "examples/vllm/start.sh"), model_folder(), "--served-model-name",
         "smollm2", "--dtype", "float32", "--max-model-len", "2048", "--max-num-seqs", "8",
         "--enforce-eager", "--gpu-memory-utilization", "0.4"],
        stdout=subprocess.PIPE, text=True, env={
            **os.environ, **{name: str(port) for name, port in ports.items()}, "LOGS": str(logs),
            "VLLM": str(Path(sys.executable).with_name("vllm")),
            "BUILD": os.environ.get("BATON_BUILD", "build"), "VLLM_CPU_KVCACHE_SPACE": "1",
            "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "OMP_WAIT_POLICY": "PASSIVE",
            "KMP_BLOCKTIME": "0"})
    try:
        assert started.stdout.readline().startswith("READY "), logs
        yield Server(ports["PREFILL"]), Server(ports["DECODE"]), Server(ports["ROUTER"])
        assert started.poll() is None, logs
    finally:
        started.terminate()
        code = started.wait(120)
    assert code == 0, (code, logs)


def complete(client, ids, salt, **body):
    return client.completions.create(
        model="smollm2", prompt=ids, max_tokens=body.pop("max_tokens", ANSWER), temperature=0,
        extra_body={"cache_salt": salt, "ignore_eos": True, "return_token_ids": True, **body})


@pytest.mark.parametrize("tokens", [129, 600])
def test_through_the_router(servers, tokenizer, tokens):
    prefiller, decoder, router = servers
    ids = prompt(tokenizer, tokens, seed=tokens)
    right = complete(prefiller.client(), ids, f"alone {tokens}")
    before = decoder.loaded_tokens(), decoder.computed_tokens(), decoder.counter(
        "vllm:baton_loads_total")
    answer = complete(router.client(), ids, f"routed {tokens}")
    assert answer.choices[0].token_ids == right.choices[0].token_ids
    said = answer.kv_transfer_params["baton"]
    assert said["end"] == "committed" and said["prompt_tokens_computed"] == 1
    assert said["transport"] == "local"
    assert decoder.loaded_tokens() - before[0] == tokens
    assert decoder.computed_tokens() == before[1]
    assert decoder.counter("vllm:baton_loads_total") - before[2] == 1


def test_a_stream_through_the_router(servers, tokenizer):
    prefiller, decoder, router = servers
    ids = prompt(tokenizer, 300, seed=300)
    right = complete(prefiller.client(), ids, "alone stream").choices[0].text
    before = decoder.loaded_tokens()
    pieces = list(router.client().completions.create(
        model="smollm2", prompt=ids, max_tokens=ANSWER, temperature=0, stream=True,
        extra_body={"cache_salt": "routed stream", "ignore_eos": True}))
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == right
    assert decoder.loaded_tokens() - before == 300


def test_a_chat_through_the_router(servers):
    prefiller, decoder, router = servers
    arguments = dict(model="smollm2", max_tokens=ANSWER, temperature=0,
                     messages=[{"role": "user", "content": "Name three rivers in Europe."}])
    right = prefiller.client().chat.completions.create(**arguments)
    before = decoder.loaded_tokens()
    answer = router.client().chat.completions.create(**arguments)
    assert answer.choices[0].message.content == right.choices[0].message.content
    assert decoder.loaded_tokens() - before == answer.usage.prompt_tokens


def test_two_steps_as_a_stock_proxy_does_them(servers, tokenizer):
    """The parameters that vLLM's own example proxy sends, and its answer given on as it is."""
    prefiller, decoder, _ = servers
    ids = prompt(tokenizer, 400, seed=400)
    right = complete(prefiller.client(), ids, "alone two-step")
    first = complete(prefiller.client(), ids, "two-step", max_tokens=1, kv_transfer_params={
        "do_remote_decode": True, "do_remote_prefill": False, "remote_engine_id": None,
        "remote_block_ids": None, "remote_host": None, "remote_port": None})
    before = decoder.loaded_tokens()
    second = complete(decoder.client(), ids, "two-step",
                      kv_transfer_params=first.kv_transfer_params)
    assert second.choices[0].token_ids == right.choices[0].token_ids
    assert second.kv_transfer_params["baton"]["prompt_tokens_computed"] == 1
    assert decoder.loaded_tokens() - before == 400
