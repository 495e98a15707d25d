"""Result lines of the samples, in the form of `baton bench --json`, with the goals.

A round's samples are compared with each other: `ratio` is the median over the rounds of the
reference's time by ours, so what changes from round to round (the machine) does not count. More is
better.
"""

import json
import math
import os
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Line:
    measure: str  # of a Sample
    variant: str
    tokens: int
    reference: str
    ours: list  # seconds, of each round
    against: list
    goal: float = None  # of ratio; None: stated
    also: dict = None

    @property
    def ratios(self):
        return [b / a for a, b in zip(self.ours, self.against)]

    @property
    def ratio(self):
        return statistics.median(self.ratios)


def quantile(values, share):
    """Nearest rank, as in measure.h."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def spread(values):
    return (quantile(values, 0.95) - quantile(values, 0.05)) / statistics.median(values)


def of(samples, variant, tokens, measure):
    return [getattr(each[variant, tokens], measure) for each in samples]


def process_cpu(samples, variant, tokens):
    """What all threads of the engine's process used during the step: says what a connector takes
    even where others use the machine."""
    return [a + b for a, b in zip(of(samples, variant, tokens, "step_cpu"),
                                  of(samples, variant, tokens, "others_cpu"))]


def line(samples, tokens, measure, variant, reference, goal=None, reference_measure=None):
    ours = of(samples, variant, tokens, measure)
    against = of(samples, reference, tokens, reference_measure or measure)
    also = {}
    if measure == "step":
        for name in ("step_cpu", "hooks", "others_cpu"):
            values = of(samples, variant, tokens, name)
            also[f"{name}_ms"] = round(statistics.median(values) * 1e3, 3)
        also["process_cpu_ratio"] = round(statistics.median(
            b / a for a, b in zip(process_cpu(samples, variant, tokens),
                                  process_cpu(samples, reference, tokens))), 4)
    words = reference if not reference_measure else f"{reference}: {reference_measure}"
    return Line(measure, variant, tokens, words, ours, against, goal, also)


def handoff_lines(samples):
    variants = list(dict.fromkeys(variant for variant, _ in samples[0]))
    sizes = sorted({tokens for _, tokens in samples[0]})
    peers = [name for name in ("NIXL",) if name in variants]
    handoffs = [name for name in ("push", "two steps") + tuple(peers) if name in variants]
    lines = []
    for tokens in sizes:
        def add(*what, **more):
            lines.append(line(samples, tokens, *what, **more))

        # The prefiller's step.
        add("step", "push", "single", goal=0.98)
        add("step", "push", "prefiller, no handoff")
        add("step", "prefiller, no handoff", "single")
        for name in handoffs[1:]:
            add("step", name, "single")
        # The decoder's first token.
        add("first", "push", "single", goal=1 / 1.05)
        add("first", "push", "push", reference_measure="step")
        for name in handoffs[1:]:
            add("first", name, "single")
        for peer in peers:
            for name in ("push", "two steps"):
                add("first", name, peer, goal=1.0)
        # The tokens after it.
        for name in handoffs:
            add("between", name, "single")
    return lines


OURS = ("offload", "offload, tails")


def offload_lines(samples):
    lines = []
    taken = {variant for variant, _ in samples[0] if not variant.endswith(", computed")}
    variants = [name for name in OURS if name in taken] + sorted(taken - set(OURS))
    for tokens in sorted({tokens for _, tokens in samples[0]}):
        for name in variants:
            lines.append(line(samples, tokens, "first", name, f"{name}, computed",
                              goal=20.0 if name in OURS else None))
        for name in variants:
            if name not in OURS:
                lines.append(line(samples, tokens, "first", variants[0], name))
    return lines


def machine():
    described = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((text.split(":")[1].strip() for text in described
                  if text.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}"


def as_json(it):
    def ms(seconds):
        return round(seconds * 1e3, 3)

    return json.dumps({
        "name": "vllm", "parameters": {"measure": it.measure, "variant": it.variant,
                                       "tokens": it.tokens},
        "bytes": None, "goodput_GBps": None, "reference": it.reference, "reference_GBps": None,
        "ratio": round(it.ratio, 4), "median_ms": ms(statistics.median(it.ours)),
        "p95_ms": ms(quantile(it.ours, 0.95)), "p99_ms": None, "samples": len(it.ours),
        "blame": None,
        "also": {"reference_median_ms": ms(statistics.median(it.against)),
                 "reference_spread": round(spread(it.against), 4),
                 "ratio_p5": round(quantile(it.ratios, 0.05), 4),
                 "ratio_p95": round(quantile(it.ratios, 0.95), 4), "goal": it.goal,
                 "ours_ms": [ms(each) for each in it.ours],
                 "reference_ms": [ms(each) for each in it.against], **(it.also or {})},
        "machine": machine(), "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})


COLUMNS = ("time of", "tokens", "way", "median ms", "p95 ms", "beside", "its median ms",
           "its spread", "ratio", "p5 to p95", "goal", "")
HEADING = f"| {' | '.join(COLUMNS)} |\n" + "|---" * len(COLUMNS) + "|"
WORDS = {"step": "prefill step", "first": "first token", "between": "each further token"}


def as_row(it):
    met = "stated" if it.goal is None else ("met" if it.ratio >= it.goal else "**missed**")
    goal = "" if it.goal is None else f"{it.goal:.3g}"
    return (f"| {WORDS[it.measure]} | {it.tokens} | {it.variant} "
            f"| {statistics.median(it.ours) * 1e3:.4g} | {quantile(it.ours, 0.95) * 1e3:.4g} "
            f"| {it.reference} | {statistics.median(it.against) * 1e3:.4g} "
            f"| {spread(it.against):.1%} | {it.ratio:.3f} "
            f"| {quantile(it.ratios, 0.05):.3f} to {quantile(it.ratios, 0.95):.3f} "
            f"| {goal} | {met} |")
