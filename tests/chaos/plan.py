"""What happens in a round, decided by its seed and number alone: which faults strike whom, when.

A fault is a few events at times from the round's beginning. Faults of a round may overlap and may
strike the same process: whoever executes them sees to it (an event that finds its process gone does
nothing). What is still wrong when the round is over is mended before anything is checked.
"""

import random
from dataclasses import dataclass

ROUTER = "router"
PREFILLERS = ("prefill-1", "prefill-2")
DECODERS = ("decode-1", "decode-2")
ENGINES = PREFILLERS + DECODERS
TARGETS = (ROUTER, *ENGINES)

SEGMENT_FAULTS = ("flip", "lose", "double", "reorder", "late", "foreign", "layer")
WAYS = ("control", "http", "all")  # what of an engine cannot be reached


@dataclass(frozen=True, order=True)
class Event:
    at: float       # seconds after the round's beginning
    fault: int      # the round's how many-th
    action: str     # a method of Stage
    target: str
    argument: str = ""

    def __str__(self):
        return f"{self.at:5.2f} s  fault {self.fault}: {self.action} {self.target} {self.argument}"


@dataclass(frozen=True)
class Round:
    number: int
    load_s: float
    events: tuple  # in time

    def strikes(self, target, *actions):
        return any(event.target == target and event.action in actions for event in self.events)


def kill(rng, at, span):
    target = rng.choice(TARGETS)
    return [(at, "kill", target, ""), (at + rng.uniform(0.01, span), "start", target, "")]


def restart(rng, at, span):
    target = rng.choice(TARGETS)
    return [(at, "terminate", target, ""), (at + rng.uniform(0, 0.1), "start", target, "")]


def stop(rng, at, span):
    target = rng.choice(TARGETS)
    return [(at, "stop", target, ""), (at + rng.uniform(0.02, span), "go_on", target, "")]


def slow(rng, at, span):
    """Most of the time it stands still."""
    target = rng.choice(TARGETS)
    events, end = [], at + span
    while at < end:
        events += [(at, "stop", target, ""), (at + 0.04, "go_on", target, "")]
        at += 0.04 + rng.uniform(0.005, 0.02)
    return events


def partition(rng, at, span):
    target, way = rng.choice(ENGINES), rng.choice(WAYS)
    return [(at, "part", target, way), (at + rng.uniform(0.05, span), "join", target, "")]


def reset(rng, at, span):
    target, way = rng.choice(ENGINES), rng.choice(WAYS)
    return [(at, "reset", target, way), (at + rng.uniform(0.01, 0.2), "join", target, "")]


def corrupt(rng, at, span):
    target = rng.choice(DECODERS)
    kinds = rng.sample(SEGMENT_FAULTS, rng.randrange(1, 4))
    spec = ",".join(f"{kind}={rng.choice((20, 100, 400))}" for kind in kinds)
    return [(at, "corrupt", target, spec), (at + rng.uniform(0.2, span), "corrupt", target, "")]


FAULTS = {fault.__name__: fault
          for fault in (kill, restart, stop, slow, partition, reset, corrupt)}


def plan_round(seed, number, faults=tuple(FAULTS)):
    """`faults`: the names of those that may strike."""
    rng = random.Random(f"{seed} {number}")
    load_s = rng.uniform(0.5, 0.9)
    events = []
    for fault in range(1, rng.randrange(1, 4) + 1):
        at = rng.uniform(0.02, load_s - 0.2)
        for at, action, target, argument in FAULTS[rng.choice(faults)](rng, at, load_s - at + 0.1):
            events.append(Event(round(at, 3), fault, action, target, argument))
    return Round(number, load_s, tuple(sorted(events)))
