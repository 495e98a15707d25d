#!/usr/bin/python3
"""Faults without end: runs a router, two prefillers and two decoders, sends requests without pause,
and strikes any of them at random. After each round everything must be as if nothing had been. A
round that fails is printed with its seed and its events; `--only-round` plays it again."""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "e2e"), str(TESTS.parent / "examples" / "hosts")]

from baton import TRANSPORTS, Baton, scaled  # noqa: E402
from checks import (Memory, check_metrics, check_outcomes, check_usage,  # noqa: E402
                    remember_metrics, wait_quiet)
from faults import CLEAR_ERRORS  # noqa: E402
from load import MAX_TOKENS, Load, prompts  # noqa: E402
from plan import FAULTS, ROUTER, plan_round  # noqa: E402
from stage import Stage, own_network  # noqa: E402

SETTLE_S = scaled(10)


def expected_tokens(baton):
    """What the engine alone answers to each of prompts()."""
    alone = baton.alone()
    tokens = [alone.complete(prompt, MAX_TOKENS).tokens for prompt in prompts()]
    alone.end()
    baton.processes.remove(alone)
    return tokens


def strike(stage, plan, began, happened):
    """Executes the events at their times; tells `happened` what was done and when."""
    for event in plan.events:
        time.sleep(max(0.0, began + event.at - time.monotonic()))
        at = time.monotonic() - began
        did = getattr(stage, event.action)(event.target, event.argument)
        happened.append(f"{event}  at {at:.2f} s: {did or 'nothing to do'}")
    time.sleep(max(0.0, began + plan.load_s - time.monotonic()))


def hand_off_again(stage, expected, rng):
    """Requests until one is handed off as if nothing had been; what is wrong on the way."""
    deadline = time.monotonic() + SETTLE_S
    everything = prompts()
    while True:
        number = rng.randrange(len(everything))
        answer = stage.router.complete(everything[number], MAX_TOKENS)
        if answer.status == 200:
            if answer.tokens != expected[number]:
                return [f"in the quiet: other tokens: {answer.tokens}, not {expected[number]}"]
            if answer.handoff.get("end") == "committed":
                transport = answer.handoff["transport"]  # None: nothing had to cross
                right = transport in (None, TRANSPORTS.get(stage.channel.get("channel"), transport))
                return [] if right else [f"in the quiet: handed off over {transport}"]
        elif answer.status not in CLEAR_ERRORS:
            return [f"in the quiet: an unclear error: {answer}"]
        if time.monotonic() > deadline:
            return [f"in the quiet: nothing is handed off for {SETTLE_S} s: {answer}"]


class Chaos:
    def __init__(self, stage, expected, options, totals):
        self.stage = stage
        self.expected = expected
        self.seed = options.seed
        self.faults = options.faults
        self.totals = totals
        self.memory = Memory()

    def quiet(self, rng):
        """Waits until it is quiet and leaves it quiet; what is wrong."""
        problems = wait_quiet(self.stage)
        if not problems:
            problems += hand_off_again(self.stage, self.expected, rng)
        if not problems:
            problems += wait_quiet(self.stage)
        return problems

    def begin(self):
        """The first quiet, from which things are counted."""
        problems = self.quiet(random.Random(self.seed))
        return problems + check_usage(self.stage, self.memory)

    def round(self, number):
        """(problems, what happened)"""
        plan = plan_round(self.seed, number, self.faults)
        remember_metrics(self.stage, self.memory)
        load = Load(self.stage.router.api, self.expected, f"{self.seed} {number}",
                    plan.strikes(ROUTER, "kill", "terminate"), plan.load_s)
        began, happened, problems = time.monotonic(), [], []
        load.start()
        try:
            strike(self.stage, plan, began, happened)
            happened += [f"{plan.load_s:5.2f} s  mended: {what}" for what in self.stage.mend()]
        except AssertionError as error:  # a process that does not end, or does not come back
            problems.append(str(error))
        finally:
            load.finish()
        problems += self.stage.take_problems() + check_outcomes(load.outcomes)
        if not problems:
            problems += wait_quiet(self.stage)
        if not problems:
            problems += check_usage(self.stage, self.memory)
            problems += check_metrics(self.stage, self.memory, load.outcomes)
            problems += hand_off_again(self.stage, self.expected, random.Random(number))
            problems += wait_quiet(self.stage)
        self.totals["rounds"] += 1
        self.totals["requests"] += len(load.outcomes)
        self.totals["events"] += sum("nothing to do" not in line for line in happened)
        for outcome in load.outcomes:
            self.totals[f"end {outcome.end}"] += 1
            if outcome.handoff:
                self.totals[f"handoff {outcome.handoff}"] += 1
        happened += [f"{outcome.began - began:5.2f} s  {outcome.how} request for prompt "
                     f"{outcome.number}: {outcome.end}, {outcome.took:.2f} s, {outcome.problem}"
                     for outcome in load.outcomes if outcome.problem]
        return problems, happened


def report(options, number, problems, happened, folder):
    again = [f"tests/chaos/chaos.py --seed {options.seed} --only-round {number}"]
    again += [f"--faults {','.join(options.faults)}"] if options.faults != list(FAULTS) else []
    again += [f"--channel {options.channel}"] if options.channel else []
    print(f"chaos: round {number} of seed {options.seed} FAILED; again: {' '.join(again)}")
    for line in happened:
        print(f"    {line}")
    for problem in problems:
        print(f"  {problem}")
    print(f"  logs: {folder}", flush=True)


def play(options, folder, totals):
    """The rounds; how many failed. After one that failed everything is started afresh."""
    numbers = [options.only_round] if options.only_round else range(1, options.rounds + 1)
    began, failed, expected = time.monotonic(), 0, None
    baton = chaos = None

    def end():
        problems = baton.end()
        for problem in problems:
            print(f"chaos: at the end: {problem}")
        return bool(problems)
    with own_network() as network:
        try:
            for number in numbers:
                if chaos is None:
                    if network is not None:
                        network.run("nft", "flush ruleset; add table inet chaos")
                    baton = Baton(folder)
                    expected = expected or expected_tokens(baton)
                    chaos = Chaos(Stage(baton, network, options), expected, options, totals)
                    problems = chaos.begin()
                    if problems:
                        report(options, 0, problems, [], folder)
                        return failed + 1
                problems, happened = chaos.round(number)
                if options.verbose:
                    print(f"round {number}: {time.monotonic() - began:.1f} s", *happened,
                          sep="\n    ", flush=True)
                if number % 50 == 0:
                    print(f"chaos: {number} rounds, {time.monotonic() - began:.0f} s", flush=True)
                if problems:
                    failed += 1
                    report(options, number, problems, happened, folder)
                    if failed == options.failures:
                        return failed
                    end()
                    chaos, baton, folder = None, None, folder / f"after-round-{number}"
                    folder.mkdir()
        finally:
            if baton is not None and end() and not failed:
                failed = 1
            print(f"chaos: seed {options.seed}, {time.monotonic() - began:.0f} s: " +
                  ", ".join(f"{name} {count}" for name, count in totals.items()), flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(prog="tests/chaos/chaos.py", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32),
                        help="of the rounds (drawn if not given, and printed)")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--failures", type=int, default=1, metavar="N",
                        help="go on, with new processes, until so many rounds have failed")
    parser.add_argument("--only-round", type=int, metavar="K", help="play that round alone")
    parser.add_argument("--faults", type=lambda text: text.split(","), default=list(FAULTS),
                        metavar="NAME,…", help=f"only these of {', '.join(FAULTS)}")
    parser.add_argument("--channel", help="between the nodes: a value of --channel")
    parser.add_argument("--broken", metavar="FAULT",
                        help="start decoders that are broken (tests/fakes/faults.h), e.g. "
                        "unverified: the run must fail")
    parser.add_argument("--keep-logs", action="store_true", help="of a run without failures too")
    parser.add_argument("--verbose", action="store_true", help="print the events of every round")
    options = parser.parse_args()
    unknown = set(options.faults) - set(FAULTS)
    if unknown:
        parser.error(f"--faults: {', '.join(sorted(unknown))}: there are {', '.join(FAULTS)}")
    print(f"chaos: seed {options.seed}, pid {os.getpid()}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="baton-chaos-"))
    failed = play(options, folder, Counter())
    if failed == 0 and not options.keep_logs:
        shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
