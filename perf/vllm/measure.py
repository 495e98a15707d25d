#!/usr/bin/env python3
"""What a handoff, and an offloaded prompt, cost real engines: see README.md.

    python perf/vllm/measure.py --model build-vllm/smollm2-float32 --out FILE.jsonl > FILE.md

in a virtual environment with vLLM and the package baton (tests/vllm/run.sh makes one, and the model's
folder). Result lines go to --out, a table with the goals to stdout, progress to stderr. A missed goal
is not an error; wrong tokens are.
"""

import argparse
import concurrent.futures
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tokenizers import Tokenizer

import report
from engine import Engine, EngineError
from prompts import prompt
from variants import Alone, Nixl, Offload, PrefillAlone, Push, TwoSteps, Wrong

ROOT = Path(__file__).resolve().parents[2]
BLOCK_TOKENS = 128
CHUNK_TOKENS = 256
# KV of one token of SmolLM2-135M in float32: layers, KV heads, head_dim, K and V, bytes.
TOKEN_BYTES = 30 * 3 * 64 * 2 * 4
TOUCH_TOKENS = 40
NIXL = ("nixl==1.5.1", "nixl-cu13==1.5.1")


def note(text):
    print(f"measure: {text}", file=sys.stderr, flush=True)


def baton(role, channel):
    return {"kv_connector": "BatonConnector", "kv_connector_module_path": "baton.vllm",
            "kv_role": role, "kv_load_failure_policy": "recompute",
            "kv_connector_extra_config": {"channel": channel, "host_tier_mib": 512}}


def nixl(role):
    return {"kv_connector": "NixlConnector", "kv_role": role, "kv_buffer_device": "cpu",
            "kv_load_failure_policy": "fail"}


def nixl_packages(folder):
    """A folder that has NIXL, made if it is not there; apart, so that its wheels change nothing else."""
    if not (folder / "nixl").is_dir():
        note(f"installing {', '.join(NIXL)} into {folder}")
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder,
                        *NIXL], check=True, stdout=sys.stderr)
    return folder


class Engines:
    """Those of one run: started at once, and ended together."""

    def __init__(self, model, logs):
        self._model, self._logs = model, logs
        self._all = []

    def start(self, name, core, connector=None, environment=None, **arguments):
        engine = Engine(name, core, {"model": str(self._model), "connector": connector,
                                     "arguments": {"block_size": BLOCK_TOKENS, **arguments}},
                        self._logs / f"{name}.log", environment)
        self._all.append(engine)
        return engine

    def wait_ready(self):
        """Those that did not start: engine and why."""
        failed = {}

        def ready(engine):
            try:
                bound = engine.wait_ready()
                if bound["before"] != [engine.core]:
                    note(f"{engine.name}: its computing thread was on {bound['before']}")
                engine.call("forget")  # touches all of the KV's memory
                engine.stand_still()
            except EngineError as error:
                failed[engine] = error

        with concurrent.futures.ThreadPoolExecutor(len(self._all)) as threads:
            list(threads.map(ready, self._all))
        return failed

    def end(self):
        for engine in self._all:
            engine.end()


class Prompts:
    def __init__(self, model, seed):
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self._seed = seed

    def next(self, tokens):
        self._seed += 1
        return prompt(self._tokenizer, tokens, self._seed)


def in_turn(variant, prompts, act):
    """Nobody else's engines run meanwhile. What stood still is warm again before anything counts."""
    for engine in variant.engines:
        engine.go_on()
    try:
        for _ in range(2):
            variant.touch(prompts.next(TOUCH_TOKENS))
        return act(variant)
    finally:
        for engine in variant.engines:
            engine.stand_still()


def rotated(items, by):
    """Each first in turn, and each after each other."""
    by_half, backwards = divmod(by, 2)
    items = items[by_half % len(items):] + items[:by_half % len(items)]
    return items[::-1] if backwards else items


def measure_handoffs(options, engines, prompts):
    """Samples of all rounds, and who did not start."""
    single = engines.start("single", 0)
    prefiller = engines.start("prefiller", 0, baton("kv_producer", options.channel))
    decoder = engines.start("decoder", 1, baton("kv_consumer", options.channel))
    theirs = []
    if not options.without_nixl:
        folder = nixl_packages(options.nixl)
        paths = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        for index, role in enumerate(("kv_producer", "kv_consumer")):
            # Apart from what was set outside: UCX_TLS and others are passed on.
            theirs.append(engines.start(f"nixl-{role[3:]}", index, nixl(role), {
                "PYTHONPATH": paths, "VLLM_NIXL_SIDE_CHANNEL_PORT": str(options.nixl_port + index),
                **dict(each.split("=", 1) for each in options.nixl_env)}))
    failed = engines.wait_ready()
    for engine in (single, prefiller, decoder):
        if engine in failed:
            raise failed[engine]
    for engine in (prefiller, decoder):
        engine.go_on()
    variants = [Alone("single", single), PrefillAlone("prefiller, no handoff", prefiller)]
    variants += [kind(name, prefiller, decoder, TOKEN_BYTES, BLOCK_TOKENS)
                 for kind, name in ((Push, "push"), (TwoSteps, "two steps"))]
    for engine in (prefiller, decoder):
        engine.stand_still()
    if theirs and not failed:
        variants.append(Nixl("NIXL", *theirs))
    samples = []
    for r in range(-options.warmups, options.rounds):
        asked = [prompts.next(tokens) for tokens in options.tokens]
        taken = {}
        for variant in rotated(variants, r):
            taken[variant.name] = in_turn(variant, prompts,
                                          lambda it: [it.sample(each) for each in asked])
        for i, (_, right) in enumerate(taken["single"]):
            for name, pairs in taken.items():
                sample, tokens = pairs[i]
                if tokens != right[:len(tokens)]:
                    raise Wrong(f"{name}: of {sample.tokens} tokens came {tokens} for {right}")
        if r >= 0:
            samples.append({(name, sample.tokens): sample for name, pairs in taken.items()
                            for sample, _ in pairs})
        note(f"round {r + 1} of {options.rounds}: " + ", ".join(
            f"{name} {pairs[-1][0].step or 0:.3f}/{pairs[-1][0].first or 0:.3f} s"
            for name, pairs in taken.items()))
    return samples, {engine.name: str(error) for engine, error in failed.items()}


def kept(tokens):
    """Of a prompt, what the offloading instance keeps: whole chunks, and one token is computed."""
    whole = tokens // CHUNK_TOKENS * CHUNK_TOKENS
    return min(whole, tokens - 1)


def measure_offload(options, engines, prompts):
    both = engines.start("both", 0, baton("kv_both", options.channel))
    theirs = {name: engines.start(name, 0, {
        "kv_connector": name, "kv_role": "kv_both",
        "kv_connector_extra_config": {"cpu_bytes_to_use": 1 << 30}})
        for name in ("OffloadingConnector", "SimpleCPUOffloadConnector")}
    failed = engines.wait_ready()
    if both in failed:
        raise failed[both]
    variants = [Offload("offload", both, kept)]
    for name, engine in theirs.items():
        if engine not in failed:
            variants.append(Offload(name, engine, lambda tokens: (tokens - 1) // BLOCK_TOKENS *
                                    BLOCK_TOKENS))
    samples = []
    for r in range(-options.warmups, options.rounds):
        taken = {}
        asked = [prompts.next(tokens) for tokens in options.offload_tokens]
        for variant in rotated(variants, r):
            for pair in in_turn(variant, prompts, lambda it: [it.samples(each) for each in asked]):
                taken.update({(sample.variant, sample.tokens): sample for sample in pair})
        if r >= 0:
            samples.append(taken)
        note(f"round {r + 1} of {options.rounds}: " + ", ".join(
            f"{name} {tokens}: {sample.first * 1e3:.1f} ms" for (name, tokens), sample in
            taken.items()))
    return samples, {engine.name: str(error) for engine, error in failed.items()}


QUESTIONS = {"handoff": (measure_handoffs, report.handoff_lines),
             "offload": (measure_offload, report.offload_lines)}


def parse():
    def numbers(text):
        return [int(each) for each in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", type=Path, default=ROOT / "build-vllm/smollm2-float32")
    parser.add_argument("--out", type=Path, required=True, help="result lines are added to it")
    parser.add_argument("--only", choices=QUESTIONS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--warmups", type=int, default=1)
    parser.add_argument("--tokens", type=numbers, default=[600, 1500])
    # 1,537: a hit of six whole chunks and one token that is computed in any case.
    parser.add_argument("--offload-tokens", type=numbers, default=[1500, 1537])
    parser.add_argument("--channel", default="auto", help="Baton's")
    parser.add_argument("--nixl", type=Path, default=ROOT / "build/peers/nixl-vllm",
                        help="folder with its packages; made from PyPI if it is not there")
    parser.add_argument("--nixl-env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--nixl-port", type=int, default=15600, help="of the first side channel")
    parser.add_argument("--without-nixl", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main():
    options = parse()
    logs = Path(tempfile.mkdtemp(prefix="baton-vllm-"))
    note(f"logs: {logs}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    print(report.HEADING, flush=True)
    for question in [options.only] if options.only else QUESTIONS:
        measure, lines_of = QUESTIONS[question]
        began = time.monotonic()
        engines = Engines(options.model, logs)
        try:
            samples, failed = measure(options, engines, Prompts(options.model, options.seed * 10_000))
        except (Wrong, EngineError) as error:
            raise SystemExit(f"measure: {error}") from error
        finally:
            engines.end()
        with options.out.open("a") as out:
            for line in lines_of(samples):
                out.write(report.as_json(line) + "\n")
                print(report.as_row(line), flush=True)
        for name, why in failed.items():
            note(f"{name} did not start: {why}")
        note(f"{question}: {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
