#!/usr/bin/env python3
"""Runs gpu_test and baton-bench's questions for a GPU, each within a deadline; prints one table.

What fails is named, and the rest goes on: time on a GPU is dear. Called by run.sh.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

TESTS_DEADLINE_S = 180

COLUMNS = [("what", 44), ("GB/s", 8), ("reference", 10), ("ratio", 6), ("median ms", 10),
           ("p95 ms", 9), ("spread", 7)]


def questions(short, kernel_bytes, handoff_bytes):
    """[(arguments of baton-bench, deadline in seconds)], the most wanted first."""
    samples = ["--samples", "3" if short else "7"]
    kernels = ["kernels", "--memory", "cuda", "--bytes", kernel_bytes]
    handoff = ["handoff", "--layers", "32", "--bytes", handoff_bytes]
    blocks = "1MiB,64KiB,4KiB" if short else "1MiB,256KiB,64KiB,16KiB,4KiB"
    asked = [([*kernels, "--block-bytes", blocks, *samples], 150)]
    for channel in ("local", "tcp", "ucx"):
        of_channel = [*handoff, "--channel", channel, *samples]
        asked.append(([*of_channel, "--memory", "cuda", "--block-bytes",
                       "64KiB" if short else "1MiB,64KiB,4KiB"], 90))
        if not short:
            asked.append(([*of_channel, "--memory", "cuda", "--mode", "retained",
                           "--block-bytes", "64KiB"], 45))
            asked.append(([*of_channel, "--memory", "host", "--block-bytes", "64KiB"], 45))
    return asked


def run_tests(build, deadline):
    """What failed of gpu_test; it prints its own summary."""
    try:
        done = subprocess.run([build / "tests/gpu_test", "--gtest_brief=1"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=deadline)
    except subprocess.TimeoutExpired as error:
        print((error.stdout or b"").decode(errors="replace")[-4000:])
        return [f"gpu_test did not end within {deadline:g} s"]
    # The nodes' logs are of interest where something went wrong.
    lines = done.stdout.splitlines()
    shown = lines if done.returncode else [line for line in lines if not line.startswith("[20")]
    print("\n".join(shown[-200:]), flush=True)
    if done.returncode:
        return [f"gpu_test exited with {done.returncode}"]
    if "skipped: no GPU" in done.stdout:
        return ["gpu_test found no GPU: the driver is there and CUDA does not work"]
    return []


def ask(build, arguments, deadline):
    """(lines, what went wrong or None). Lines that came before something went wrong count."""
    process = subprocess.Popen([build / "baton-bench", *arguments, "--json"], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wrong = None
    try:
        out, err = process.communicate(timeout=deadline)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        wrong = f"did not end within {deadline:.1f} s"
    if wrong is None and process.returncode:
        wrong = err.strip().splitlines()[-1] if err.strip() else f"exit {process.returncode}"
    lines = []
    for text in out.splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            wrong = wrong or f"printed no JSON: {text[:80]}"
    return lines, wrong


def size(count):
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count % factor == 0:
            return f"{count // factor} {unit}"
    return f"{count} B"


def what(line):
    parameters = line["parameters"]
    if line["name"] == "kernels":
        return f"{parameters['operation']}, blocks of {size(parameters['block_bytes'])}"
    return (f"handoff {parameters['channel']} {parameters['mode']} "
            f"{parameters.get('memory', 'host')}, {size(parameters['block_bytes'])}")


def row(line):
    also = line["also"]
    extra = [f"{key[:-5]} {also[key]}" for key in also if key.endswith("_GBps")]
    values = [what(line), f"{line['goodput_GBps']:.2f}", f"{line['reference_GBps']:.2f}",
              f"{line['ratio']:.3f}", f"{line['median_ms']:.3f}", f"{line['p95_ms']:.3f}",
              f"{100 * also['reference_spread']:.0f}%"]
    cells = "".join(f"{value:<{width}}" if i == 0 else f"{value:>{width}}"
                    for i, (value, (_, width)) in enumerate(zip(values, COLUMNS)))
    return f"{cells}  {', '.join(extra)}  (against {line['reference']})"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seconds", type=float, default=420, help="of measuring, at most (420)")
    parser.add_argument("--kernel-bytes", default="128MiB", help="copied in a sample (128MiB)")
    parser.add_argument("--handoff-bytes", default="256MiB", help="of a handoff (256MiB)")
    parser.add_argument("--patience", type=float, default=1,
                        help="stretches every deadline, that of measuring too (1)")
    options = parser.parse_args()
    build = options.build.resolve()
    results = None
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        results = (options.out / "gpu.jsonl").open("w")

    failures = run_tests(build, TESTS_DEADLINE_S * options.patience)
    print("".join(f"{name:<{width}}" if i == 0 else f"{name:>{width}}"
                  for i, (name, width) in enumerate(COLUMNS)) + "  also, GB/s", flush=True)
    measured = 0
    seconds = options.seconds * options.patience
    end = time.monotonic() + seconds
    asking = questions(options.short, options.kernel_bytes, options.handoff_bytes)
    for arguments, deadline in asking:
        began = time.monotonic()
        asked = " ".join(arguments)
        if began >= end:
            failures.append(f"baton bench {asked}: not asked, the {seconds:g} s are over")
            continue
        lines, wrong = ask(build, arguments, min(deadline * options.patience, end - began))
        for line in lines:
            measured += 1
            print(row(line), flush=True)
            if results:
                results.write(json.dumps(line) + "\n")
                results.flush()
        print(f"gpu: {time.monotonic() - began:.0f} s: {asked}", file=sys.stderr, flush=True)
        if wrong:
            failures.append(f"baton bench {asked}: {wrong}")
    print(f"gpu: {measured} lines measured")
    for failure in failures:
        print(f"gpu: FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
