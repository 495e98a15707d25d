#!/usr/bin/env python3
"""Asks baton bench every question that has a goal, and says which are met, as a table in Markdown.

    python3 perf/goals.py --out perf/results/2026-01-31.jsonl > perf/results/2026-01-31.md

The lines of baton bench go to --out as they come. What is measured means something on a machine
that does nothing else meanwhile. A missed goal is not an error; a question without an answer is.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIZES = "64KiB,16KiB,4KiB"
LIMIT_S = 600  # of one question


def in_order(*goals):
    """Of a question's lines one after the other; the last goes on."""
    return lambda index, line: goals[min(index, len(goals) - 1)]


def kernel_goal(index, line):
    """Of the bare copy, from runs of 4 KiB on."""
    return 0.95 if line["parameters"].get("run_bytes", 0) >= 4096 else None


def s3_goal(index, line):
    """Layer 0 has a bound of its own, in `also`."""
    return None if line["parameters"]["operation"] == "first layer" else 0.90


@dataclass
class Ask:
    question: str
    goal: Callable  # of its line of that index; None: stated


# Shares of each line's reference. (perf/README.md says what the references are.)
ASKS = [
    Ask(f"handoff --channel tcp --block-bytes {SIZES}", in_order(0.95, 0.90, 0.80)),
    Ask(f"handoff --channel tcp --mode retained --block-bytes {SIZES}", in_order(0.75)),
    Ask(f"handoff --channel ucx --block-bytes {SIZES}", in_order(0.95, 0.90, 0.90)),
    Ask(f"handoff --channel local --block-bytes {SIZES}", in_order(0.95, 0.90, 0.90)),
    Ask("pipeline", in_order(0.95)),
    Ask("checksum --channel local", in_order(0.96)),
    Ask("checksum --channel ucx", in_order(0.96)),
    Ask("latency", in_order(0.67)),
    Ask("many", in_order(0.85)),
    Ask("many --mix", in_order(1.0)),
    Ask("keys", in_order(0.90)),
    Ask("kernels", kernel_goal),
    Ask("tier --tier host", in_order(0.90, 0.83)),  # a hit, a look-up
    Ask("tier --tier nvme --segment-bytes 256KiB,1MiB,4MiB", in_order(0.90)),
    Ask("tier --tier s3 --segment-bytes 256KiB,1MiB", s3_goal),
]


def answers(bench, ask, samples):
    command = [str(bench), *ask.question.split(), "--json"]
    if samples:
        command += ["--samples", str(samples)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=LIMIT_S)
    lines = [json.loads(text) for text in done.stdout.splitlines()]
    if done.returncode != 0 or not lines:
        said = done.stderr.strip().splitlines()
        raise RuntimeError(said[-1] if said else f"exit code {done.returncode}")
    return lines


def parameters_of(line):
    shown = {k: v for k, v in line["parameters"].items()
             if k in ("block_bytes", "run_bytes", "tokens", "t_over_c", "operation", "layout",
                       "chunks", "segment_bytes", "connections")}
    return ", ".join(f"{k} {v}" for k, v in shown.items())


def row(ask, line, goal):
    met = "stated" if goal is None else ("met" if line["ratio"] >= goal else "**missed**")
    share = "" if goal is None else f"{goal:.2f}"
    return (f"| `{ask.question}` | {parameters_of(line)} | {line['median_ms']:.3g} "
            f"| {line['p95_ms']:.3g} | {line['also']['reference_median_ms']:.3g} "
            f"| {line['also']['reference_spread']:.0%} | {line['ratio']:.2f} | {share} | {met} "
            f"| {line['blame']} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, default=ROOT / "build" / "baton-bench")
    parser.add_argument("--out", type=Path, required=True, help="file for the lines of --json")
    parser.add_argument("--samples", type=int, help="of each way, instead of each question's own")
    parser.add_argument("--only", help="questions that contain this text")
    options = parser.parse_args()

    columns = ["question", "of", "median ms", "p95 ms", "reference ms", "its spread", "ratio",
               "goal", "", "bound by"]
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    failed = 0
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w") as out:
        for ask in ASKS:
            if options.only and options.only not in ask.question:
                continue
            print(ask.question, file=sys.stderr)
            try:
                lines = answers(options.bench, ask, options.samples)
            except (RuntimeError, subprocess.TimeoutExpired, json.JSONDecodeError) as error:
                print(f"| `{ask.question}` | no answer: {error} | | | | | | | | |", flush=True)
                failed += 1
                continue
            for i, line in enumerate(lines):
                out.write(json.dumps(line) + "\n")
                print(row(ask, line, ask.goal(i, line)), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
