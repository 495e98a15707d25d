#!/usr/bin/env python3
"""Writes a workload trace for `baton bench trace`: sessions of several turns that begin with one of
a few system prompts.

    python3 perf/make_trace.py --requests 20000 --seed 1 > trace.jsonl

The same arguments give the same trace. Which system prompt a session has is Zipf-like: the i-th
has a weight of 1 / i**skew. A turn's prompt is all that was said before in its session and some
more, so that its blocks are those of the turn before, but for the last one, which was a partial
one. Sessions overlap; between two turns of one session some time passes.
"""

import argparse
import heapq
import itertools
import json
import random
import sys


class Session:
    """What was said so far: whole blocks by id, and the tokens behind them."""

    def __init__(self, system_prompt):
        self.blocks = list(system_prompt)
        self.rest = 0  # tokens behind the whole blocks

    def turn(self, question, answer, block_tokens, fresh):
        """The prompt's length and blocks; then its answer is part of what was said."""
        self._say(question, block_tokens, fresh)
        length = len(self.blocks) * block_tokens + self.rest
        ids = self.blocks + ([next(fresh)] if self.rest else [])
        self._say(answer, block_tokens, fresh)
        return length, ids

    def _say(self, tokens, block_tokens, fresh):
        self.rest += tokens
        while self.rest >= block_tokens:
            self.blocks.append(next(fresh))
            self.rest -= block_tokens


def requests(options):
    rng = random.Random(options.seed)
    fresh = itertools.count()
    prompts = [[next(fresh) for _ in range(rng.randint(1, options.prompt_blocks))]
               for _ in range(options.prompts)]
    weights = [1 / (i + 1) ** options.skew for i in range(options.prompts)]
    # (time in ms, tie-breaker, session, turns left)
    due = []
    arrival, count = 0.0, itertools.count()
    while True:
        # Sessions begin as a Poisson process; those that are due go on before the next one.
        if not due or due[0][0] > arrival:
            system_prompt = rng.choices(prompts, weights)[0]
            turns = 1 + int(rng.expovariate(1 / options.turns)) if options.turns else 1
            heapq.heappush(due, (arrival, next(count), Session(system_prompt), turns))
            arrival += rng.expovariate(1 / options.session_ms)
            continue
        at, _, session, turns = heapq.heappop(due)
        question = 1 + int(rng.expovariate(1 / options.question_tokens))
        answer = 1 + int(rng.expovariate(1 / options.answer_tokens))
        length, ids = session.turn(question, answer, options.block_tokens, fresh)
        yield {"timestamp": int(at), "input_length": length, "output_length": answer,
               "hash_ids": ids}
        if turns > 1:
            pause = rng.expovariate(1 / options.pause_ms)
            heapq.heappush(due, (at + pause, next(count), session, turns - 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    whole = dict(type=int, metavar="N")
    parser.add_argument("--requests", default=10_000, help="how many (10000)", **whole)
    parser.add_argument("--seed", default=1, help="of everything that is drawn (1)", **whole)
    parser.add_argument("--block-tokens", default=512, help="tokens of a block (512)", **whole)
    parser.add_argument("--prompts", default=50, help="system prompts (50)", **whole)
    parser.add_argument("--prompt-blocks", default=8, help="blocks of one, at most (8)", **whole)
    parser.add_argument("--skew", default=1.0, type=float, metavar="X",
                        help="exponent of their popularity (1.0)")
    parser.add_argument("--turns", default=2, help="turns of a session after the first, on the "
                        "average (2)", **whole)
    parser.add_argument("--question-tokens", default=1500, help="on the average (1500)", **whole)
    parser.add_argument("--answer-tokens", default=300, help="on the average (300)", **whole)
    parser.add_argument("--session-ms", default=500, help="between two sessions (500)", **whole)
    parser.add_argument("--pause-ms", default=60_000, help="between two turns (60000)", **whole)
    options = parser.parse_args()
    for name, value in vars(options).items():
        if name not in ("seed", "skew", "turns") and value < 1:
            parser.error(f"--{name.replace('_', '-')} is {value}: expected at least 1")
    for request in itertools.islice(requests(options), options.requests):
        json.dump(request, sys.stdout)
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
