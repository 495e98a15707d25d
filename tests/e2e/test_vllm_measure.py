"""perf/vllm/measure.py with a stand-in for vLLM: that it answers in the form that is promised, sees
wrong tokens and prompts that were computed, and gets over a peer that fails. Never how fast
anything was."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from test_bench import FIELDS

SCRIPT = Path(__file__).resolve().parents[2] / "perf/vllm/measure.py"

# As far as worker.py calls it. A decoder has all of a prompt at once; an instance that offloads has
# the whole chunks of what came before under the same salt.
VLLM = '''
import time
from types import SimpleNamespace as Some
from vllm.distributed import kv_transfer

FAULT = "{fault}"


class SamplingParams(Some):
    pass


class Tensor:
    def fill_(self, value):
        pass


class LLM:
    def __init__(self, kv_transfer_config=None, **arguments):
        self.config = kv_transfer_config or {{"kv_connector": "", "kv_role": ""}}
        connector = self.config["kv_connector"]
        if "Offload" in connector or (connector and FAULT == connector):
            raise RuntimeError("not on this platform")
        if kv_transfer_config:
            kv_transfer.group = kv_transfer.Connector()
        self.requests, self.kept, self.draining = {{}}, set(), 0
        self.external = self.host = 0
        runner = Some(kv_caches=[Tensor()])
        core = Some(
            scheduler=Some(requests={{}}, schedule=self.schedule, has_requests=self.has_requests),
            step_fn=self.core_step,
            model_executor=Some(driver_worker=Some(model_runner=runner)))
        self.core = core
        self.llm_engine = Some(
            engine_core=Some(engine_core=core, shutdown=lambda: None),
            add_request=self.add_request, step=self.step)

    def has_requests(self):
        return bool(self.requests) or self.draining > 0

    def reset_prefix_cache(self):
        return not self.requests

    def add_request(self, name, prompt, sampling):
        prompt = Some(ids=prompt["prompt_token_ids"], salt=prompt["cache_salt"], tokens=[],
                      most=sampling.max_tokens,
                      params=(sampling.extra_args or {{}}).get("kv_transfer_params") or {{}})
        self.requests[name] = prompt
        self.core.scheduler.requests["internal " + name] = Some(num_prompt_tokens=len(prompt.ids))

    def decodes(self, one):
        return one.params.get("do_remote_prefill") or \\
            one.params.get("baton", {{}}).get("role") == "decode"

    def held(self, one):
        if self.decodes(one) and FAULT != "computed":
            self.external += len(one.ids)
            return len(one.ids) - 1
        if self.config["kv_role"] == "kv_both" and one.salt in self.kept:
            extra = self.config["kv_connector_extra_config"]
            kept = len(one.ids) - 1 if extra.get("offload_tails") else len(one.ids) // 256 * 256
            self.host += kept
            return kept
        self.kept.add(one.salt)
        return 0

    def schedule(self):
        new, scheduled = [], {{}}
        for name, one in self.requests.items():
            name = "internal " + name
            done = len(one.ids) + len(one.tokens) - 1 if one.tokens else self.held(one)
            new.append(Some(req_id=name, num_computed_tokens=done))
            scheduled[name] = 1 if one.tokens else len(one.ids) - done
        return Some(scheduled_new_reqs=new, num_scheduled_tokens=scheduled,
                    scheduled_cached_reqs=Some(req_ids=[], num_computed_tokens=[]))

    def core_step(self):
        if not self.requests:
            self.draining -= 1
            return {{}}, False
        self.core.scheduler.schedule()
        time.sleep(0.0005)
        for one in self.requests.values():
            wrong = FAULT == "tokens" and self.decodes(one) and one.tokens
            one.tokens.append((sum(one.ids) + len(one.tokens) + bool(wrong)) % 1000)
        return {{}}, True

    def step(self):
        self.core.step_fn()
        outputs = []
        for name, one in list(self.requests.items()):
            answer = None
            if one.params.get("do_remote_decode"):
                answer = {{"do_remote_prefill": True}}
            elif self.decodes(one):
                size = -(-len(one.ids) // 128) * 128 * 30 * 3 * 64 * 2 * 4
                answer = {{"baton": {{"end": "committed", "bytes": size}}}}
            finished = len(one.tokens) == one.most
            outputs.append(Some(request_id=name, outputs=[Some(token_ids=one.tokens)],
                                finished=finished, kv_transfer_params=answer))
            if finished:
                del self.requests[name]
                self.draining = 2
        return outputs

    def get_metrics(self):
        return [Some(name="vllm:prompt_tokens_by_source",
                     labels={{"source": "external_kv_transfer"}}, value=self.external),
                Some(name="vllm:prompt_tokens_cached_by_source", labels={{"source": "host"}},
                     value=self.host)]
'''

KV_TRANSFER = '''
from types import SimpleNamespace as Some


class Connector:
    _worker = Some(node=Some(advertised="127.0.0.1:1"))

    def __getattr__(self, name):
        return lambda *arguments, **named: None


group = None


def has_kv_transfer_group():
    return group is not None


def get_kv_transfer_group():
    return group
'''

TOKENIZERS = '''
class Tokenizer:
    @staticmethod
    def from_file(path):
        return Tokenizer()

    def encode(self, text):
        self.ids = [sum(word.encode()) for word in text.split()]
        return self
'''


@pytest.fixture
def measure(tmp_path):
    def run(*arguments, fault="", code=0):
        package = tmp_path / "vllm/distributed/kv_transfer"
        package.mkdir(parents=True)
        (tmp_path / "vllm/__init__.py").write_text(VLLM.format(fault=fault))
        (tmp_path / "vllm/distributed/__init__.py").touch()
        (package / "__init__.py").write_text(KV_TRANSFER)
        (tmp_path / "tokenizers.py").write_text(TOKENIZERS)
        (tmp_path / "nixl").mkdir()
        out = tmp_path / "lines.jsonl"
        done = subprocess.run(
            [sys.executable, SCRIPT, "--out", out, "--nixl", tmp_path, "--rounds", "2", *arguments],
            capture_output=True, text=True, timeout=120,
            env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"})
        assert done.returncode == code, done.stderr
        lines = [json.loads(text) for text in out.read_text().splitlines()] if out.exists() else []
        return lines, done

    return run


def test_handoffs_are_measured_beside_an_engine_alone_and_nixl(measure):
    lines, done = measure("--only", "handoff", "--tokens", "300")
    for line in lines:
        assert list(line) == FIELDS and line["samples"] == 2
    compared = {(line["parameters"]["measure"], line["parameters"]["variant"], line["reference"])
                for line in lines}
    assert {("step", "push", "single"), ("first", "push", "single"), ("first", "push", "NIXL"),
            ("first", "two steps", "NIXL"), ("between", "push", "single")} <= compared
    # The table: a heading and a row for each.
    assert len(done.stdout.splitlines()) == 2 + len(lines)


def test_a_hit_is_measured_beside_computing(measure):
    lines, done = measure("--only", "offload", "--offload-tokens", "300")
    assert [line["parameters"] for line in lines] == [
        {"measure": "first", "variant": name, "tokens": 300}
        for name in ("offload", "offload, tails")]
    assert all(line["also"]["goal"] == 20 for line in lines)
    # vLLM's own do not start there, and are named.
    assert "no figures of OffloadingConnector: " in done.stderr
    assert "not on this platform" in done.stderr


def test_without_nixl_there_are_figures_of_the_others(measure):
    lines, done = measure("--only", "handoff", "--tokens", "300", fault="NixlConnector")
    assert lines and not [line for line in lines if "NIXL" in str(line)]
    assert "no figures of nixl-producer: " in done.stderr


@pytest.mark.parametrize("fault, said", [
    ("tokens", "of 300 tokens came"),
    ("computed", "the decoder computed of the prompt: 300"),
])
def test_what_is_wrong_ends_the_program(measure, fault, said):
    lines, done = measure("--only", "handoff", "--tokens", "300", fault=fault, code=1)
    assert said in done.stderr and not lines
