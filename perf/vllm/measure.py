#!/usr/bin/env python3
"""What a handoff, and an offloaded prompt, cost real engines: see README.md.

    python perf/vllm/measure.py --model build-vllm/smollm2-float32 --out FILE.jsonl > FILE.md

in a virtual environment with vLLM and the package baton (tests/vllm/run.sh makes one, and the
model's folder). Result lines go to --out, a table with the goals to stdout, progress to stderr. A
missed goal is not an error; wrong tokens are.
"""

import argparse
import concurrent.futures
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tokenizers import Tokenizer

import report
from engine import Engine, EngineError, baton
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


def ours(role, options, **further):
    return baton(role, channel=options.channel, host_tier_mib=512, **further)


def nixl(role):
    return {"kv_connector": "NixlConnector", "kv_role": role, "kv_buffer_device": "cpu",
            "kv_load_failure_policy": "fail"}


def nixl_packages(folder):
    """A folder that has NIXL, made if it is not there; apart, so that its wheels change nothing."""
    if not (folder / "nixl").is_dir():
        note(f"installing {', '.join(NIXL)} into {folder}")
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target",
                        folder, *NIXL], check=True, stdout=sys.stderr)
    return folder


class Stopped(Exception):
    """SIGTERM: what was measured so far is told."""


def stop(number, frame):
    raise Stopped


class Engines:
    """Those of one run: started at once, and ended together."""

    def __init__(self, model, logs):
        self._model, self._logs = model, logs
        self._all = []

    def start(self, name, core, connector=None, environment=None, yielding=False):
        engine = Engine(name, core, {"model": str(self._model), "connector": connector,
                                     "arguments": {"block_size": BLOCK_TOKENS}},
                        self._logs / f"{name}.log", environment, yielding)
        self._all.append(engine)
        return engine

    def wait_ready(self):
        """Those that did not start: engine and why."""
        failed = {}

        def ready(engine):
            try:
                bound = engine.wait_ready()
                others = sorted({tuple(cores) for cores in bound["others"]})
                note(f"{engine.name}: computes on core {engine.core} (was on {bound['before']}), "
                     f"its {len(bound['others'])} other threads are on {others}")
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
    """Nobody else's engines run meanwhile. What stood still is warm before anything counts."""
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


class Rounds:
    """What comes of each round: a variant's samples. A peer's that fails is left out from then on,
    and what it had is thrown away; ours must not."""

    def __init__(self, options, prompts, variants, peers, failed):
        self._options, self._prompts, self._variants = options, prompts, variants
        self._peers, self.failed = peers, failed  # names; name: why
        self.samples = []

    def run(self, sizes, take, check=lambda taken: None):
        """`take(variant, prompts)`: [(sample, tokens)]."""
        try:
            self._run(sizes, take, check)
        except Stopped:
            note("stopped: these are the figures of whole rounds")

    def _run(self, sizes, take, check):
        end = time.monotonic() + self._options.seconds
        for r in range(-self._options.warmups, self._options.rounds):
            if self.samples and time.monotonic() > end:
                note(f"no more rounds after {self._options.seconds} s")
                break
            asked = [self._prompts.next(tokens) for tokens in sizes]
            taken = {}
            for variant in rotated(self._variants, r + self._options.warmups):
                try:
                    taken[variant.name] = in_turn(variant, self._prompts,
                                                  lambda it: take(it, asked))
                except (Wrong, EngineError) as error:
                    if variant.name not in self._peers:
                        raise
                    self._leave_out(variant, str(error))
            check(taken)
            if r >= 0:
                self.samples.append({(sample.variant, sample.tokens): sample
                                     for pairs in taken.values() for sample, _ in pairs})
            note(f"round {r + 1} of {self._options.rounds}: " + ", ".join(
                f"{sample.variant} {sample.tokens}: " +
                "/".join(f"{value * 1e3:.1f}" for value in (sample.step, sample.first) if value)
                for pairs in taken.values() for sample, _ in pairs))

    def _leave_out(self, variant, why):
        note(f"{variant.name} is left out: {why}")
        self.failed[variant.name] = why
        self._variants = [each for each in self._variants if each is not variant]
        self.samples = [{key: sample for key, sample in each.items()
                         if not key[0].startswith(variant.name)} for each in self.samples]


def same_tokens(taken):
    for i, (_, right) in enumerate(taken["single"]):
        for name, pairs in taken.items():
            sample, tokens = pairs[i]
            if tokens != right[:len(tokens)]:
                raise Wrong(f"{name}: of {sample.tokens} tokens came {tokens} for {right}")


def measure_handoffs(options, engines, prompts):
    """The rounds, and who is not in them, and why."""
    single = engines.start("single", 0)
    prefiller = engines.start("prefiller", 0, ours("kv_producer", options))
    decoder = engines.start("decoder", 1, ours("kv_consumer", options))
    theirs = []
    if not options.without_nixl:
        folder = nixl_packages(options.nixl)
        paths = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        for index, role in enumerate(("kv_producer", "kv_consumer")):
            # NIXL's progress threads poll without end, on the cores of the engines; and its
            # connector moves the computing thread to the machine's last core, the decoder's.
            theirs.append(engines.start(f"nixl-{role[3:]}", index, nixl(role), {
                "PYTHONPATH": paths, "VLLM_NIXL_SIDE_CHANNEL_PORT": str(options.nixl_port + index),
                **dict(each.split("=", 1) for each in options.nixl_env)},
                yielding=not options.nixl_as_placed))
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
    rounds = Rounds(options, prompts, variants, {"NIXL"},
                    {engine.name: str(error) for engine, error in failed.items()})
    rounds.run(options.tokens, lambda it, asked: [it.sample(each) for each in asked], same_tokens)
    return rounds


def kept(tokens):
    """Of a prompt, what the offloading instance keeps: whole chunks, and one token is computed."""
    whole = tokens // CHUNK_TOKENS * CHUNK_TOKENS
    return min(whole, tokens - 1)


def kept_with_tail(tokens):
    return tokens - 1


def measure_offload(options, engines, prompts):
    both = engines.start("both", 0, ours("kv_both", options))
    tails = engines.start("tails", 0, ours("kv_both", options, offload_tails=True))
    theirs = {name: engines.start(name, 0, {
        "kv_connector": name, "kv_role": "kv_both",
        "kv_connector_extra_config": {"cpu_bytes_to_use": 1 << 30}})
        for name in ("OffloadingConnector", "SimpleCPUOffloadConnector")}
    failed = engines.wait_ready()
    for engine in (both, tails):
        if engine in failed:
            raise failed[engine]
    variants = [Offload("offload", both, kept), Offload("offload, tails", tails, kept_with_tail)]
    for name, engine in theirs.items():
        if engine not in failed:
            variants.append(Offload(name, engine, lambda tokens: (tokens - 1) // BLOCK_TOKENS *
                                    BLOCK_TOKENS))
    rounds = Rounds(options, prompts, variants, set(theirs),
                    {engine.name: str(error) for engine, error in failed.items()})
    rounds.run(options.offload_tokens,
               lambda it, asked: [pair for each in asked for pair in it.samples(each)])
    return rounds


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
    parser.add_argument("--seconds", type=int, default=1800,
                        help="no further round of a question after so many")
    parser.add_argument("--tokens", type=numbers, default=[600, 1500])
    # 1,537: a hit of six whole chunks and one token that is computed in any case.
    parser.add_argument("--offload-tokens", type=numbers, default=[1500, 1537])
    parser.add_argument("--channel", default="auto", help="Baton's")
    parser.add_argument("--nixl", type=Path, default=ROOT / "build/peers/nixl-vllm",
                        help="folder with its packages; made from PyPI if it is not there")
    parser.add_argument("--nixl-env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--nixl-as-placed", action="store_true",
                        help="its polling threads stay where vLLM starts them")
    parser.add_argument("--nixl-port", type=int, default=15600, help="of the first side channel")
    parser.add_argument("--without-nixl", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main():
    options = parse()
    signal.signal(signal.SIGTERM, stop)
    logs = Path(tempfile.mkdtemp(prefix="baton-vllm-"))
    note(f"logs: {logs}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    print(report.HEADING, flush=True)
    for question in [options.only] if options.only else QUESTIONS:
        measure, lines_of = QUESTIONS[question]
        began = time.monotonic()
        engines = Engines(options.model, logs)
        try:
            rounds = measure(options, engines, Prompts(options.model, options.seed * 10_000))
        except (Wrong, EngineError) as error:
            raise SystemExit(f"measure: {error}") from error
        finally:
            engines.end()
        if not rounds.samples:
            raise SystemExit("measure: no whole round")
        with options.out.open("a") as out:
            for line in lines_of(rounds.samples):
                out.write(report.as_json(line) + "\n")
                print(report.as_row(line), flush=True)
        for name, why in rounds.failed.items():
            note(f"no figures of {name}: {why}")
        note(f"{question}: {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
