"""The ways a prompt is served that are compared: which engines each needs, and one sample of it.

By the engines' own counters each computed what it should have, or the sample is Wrong. Its tokens
are compared with those of an engine alone by whoever takes it.
"""

import dataclasses
import itertools
import statistics
import time
import uuid

from engine import EngineError

ANSWER_TOKENS = 24
# A handoff whose other end is gone ends long before.
BUDGET_MS = 60_000


class Wrong(Exception):
    """A sample that must not count, or any other: what was wrong with it."""


@dataclasses.dataclass
class Sample:
    """Seconds."""

    variant: str
    tokens: int
    first: float = None  # from the request being sent until the first token of the answer
    between: float = None  # median time between the tokens after it
    step: float = None  # the step that computed the prompt
    step_cpu: float = None  # of it, the computing thread's own
    hooks: float = None  # of it, in the connector's hooks
    others_cpu: float = None  # the process's other threads meanwhile


def check(right, what, *said):
    if not right:
        raise Wrong(f"{what}: {', '.join(map(str, said))}")


_salts = itertools.count(1)


def ask(prompt, max_tokens, params=None):
    """Of a tenant of its own: nothing is in a prefix cache for it."""
    return dict(prompt=prompt, salt=f"sample {next(_salts)}", max_tokens=max_tokens, params=params)


def fill_prefill(sample, answer):
    (step,) = [step for step in answer["steps"] if step["computed"]]
    check(step["computed"] == sample.tokens,
          f"{sample.variant}: the prompt was not computed in one step", step["computed"])
    sample.step, sample.step_cpu = step["seconds"], step["cpu_s"]
    sample.hooks, sample.others_cpu = sum(step["hooks_s"].values()), step["other_threads_s"]


def fill_answer(sample, answer, began):
    times = answer["times"]
    sample.first = times[0] - began
    sample.between = statistics.median(b - a for a, b in zip(times, times[1:]))


def computed(answer):
    return sum(step["computed"] for step in answer["steps"])


class Alone:
    """One engine for all of it."""

    def __init__(self, name, engine):
        self.name, self.engine, self.engines = name, engine, [engine]

    def sample(self, prompt):
        sample = Sample(self.name, len(prompt))
        began = time.monotonic()
        answer = self.engine.call("request", **ask(prompt, ANSWER_TOKENS))
        fill_prefill(sample, answer)
        fill_answer(sample, answer, began)
        return sample, answer["tokens"]

    def touch(self, prompt):
        self.engine.call("request", **ask(prompt, 2))


class PrefillAlone(Alone):
    """The prefiller's engine, with its connector, and no handoff."""

    def sample(self, prompt):
        sample = Sample(self.name, len(prompt))
        answer = self.engine.call("request", **ask(prompt, 1))
        fill_prefill(sample, answer)
        return sample, answer["tokens"]


class Handoff:
    """A prefiller and a decoder."""

    def __init__(self, name, prefiller, decoder):
        self.name, self.prefiller, self.decoder = name, prefiller, decoder
        self.engines = [prefiller, decoder]

    def serve(self, prompt):
        """When the first leg was sent, and the answers of both."""
        raise NotImplementedError

    def touch(self, prompt):
        """Not checked: after standing still the two may have to find each other again."""
        self.serve(prompt)
        for engine in self.engines:
            engine.call("settle")

    def sample(self, prompt):
        sample = Sample(self.name, len(prompt))
        before = self.decoder.call("sources")
        began, prefilled, answer = self.serve(prompt)
        for engine in self.engines:
            engine.call("settle")
        after = self.decoder.call("sources")
        check(prefilled["tokens"] == answer["tokens"][:1], f"{self.name}: the two differ")
        check(computed(answer) == 1, f"{self.name}: the decoder computed of the prompt",
              computed(answer))
        source = "vllm:prompt_tokens_by_source/external_kv_transfer"
        check(after[source] - before[source] == len(prompt),
              f"{self.name}: by vLLM's count were loaded", after[source] - before[source])
        self.check_answer(answer, len(prompt))
        fill_prefill(sample, prefilled)
        fill_answer(sample, answer, began)
        return sample, answer["tokens"]

    def check_answer(self, answer, tokens):
        """What the connector itself says of it."""


class BatonHandoff(Handoff):
    def __init__(self, name, prefiller, decoder, token_bytes, block_tokens):
        super().__init__(name, prefiller, decoder)
        self._token_bytes, self._block_tokens = token_bytes, block_tokens
        self._nodes = [engine.call("node") for engine in self.engines]

    def check_answer(self, answer, tokens):
        said = answer["params"]["baton"]
        whole = -(-tokens // self._block_tokens) * self._block_tokens * self._token_bytes
        check(said["end"] == "committed" and said["bytes"] == whole, f"{self.name}: handed off",
              said)


class Push(BatonHandoff):
    """Both legs at once, as baton-router sends them."""

    def serve(self, prompt):
        request = ask(prompt, ANSWER_TOKENS)
        handoff = {"handoff": str(uuid.uuid4()), "attempt": 1, "flow": "push",
                   "budget_ms": BUDGET_MS}
        began = time.monotonic()
        prefill = self.prefiller.send("request", **{**request, "max_tokens": 1, "params": {
            "baton": {**handoff, "role": "prefill", "peer": [self._nodes[1]]}}})
        decode = self.decoder.send("request", **{**request, "params": {
            "baton": {**handoff, "role": "decode", "peer": [self._nodes[0]]}}})
        return began, self.prefiller.wait(prefill), self.decoder.wait(decode)


def in_two_steps(prefiller, decoder, prompt, params):
    """The prefiller first; what it answers goes to the decoder as it is, as stock proxies do it."""
    request = ask(prompt, ANSWER_TOKENS)
    began = time.monotonic()
    prefilled = prefiller.call("request", **{**request, "max_tokens": 1, "params": params})
    answer = decoder.call("request", **{**request, "params": prefilled["params"]})
    return began, prefilled, answer


class TwoSteps(BatonHandoff):
    def serve(self, prompt):
        return in_two_steps(self.prefiller, self.decoder, prompt, {"do_remote_decode": True})


class Nixl(Handoff):
    def serve(self, prompt):
        return in_two_steps(self.prefiller, self.decoder, prompt, {
            "do_remote_decode": True, "do_remote_prefill": False, "remote_engine_id": None,
            "remote_block_ids": None, "remote_host": None, "remote_port": None})


class Offload(Alone):
    """An instance whose prefix cache is emptied between a prompt's first and second coming: `load`
    tokens come back from its connector's host memory, the others are computed."""

    def __init__(self, name, engine, load):
        super().__init__(name, engine)
        self._load = load  # of a prompt's tokens

    def samples(self, prompt):
        """Of the first coming, which computes all of it, and of the second, with their tokens."""
        first = Sample(self.name + ", computed", len(prompt))
        request = ask(prompt, ANSWER_TOKENS)
        self.engine.call("forget")
        began = time.monotonic()
        once = self.engine.call("request", **request)
        fill_prefill(first, once)
        fill_answer(first, once, began)
        self.engine.call("settle")
        self.engine.call("forget")
        again = Sample(self.name, len(prompt))
        before = self.engine.call("sources")
        began = time.monotonic()
        answer = self.engine.call("request", **request)
        fill_answer(again, answer, began)
        self.engine.call("settle")
        after = self.engine.call("sources")
        loaded = self._load(len(prompt))
        check(answer["tokens"] == once["tokens"], f"{self.name}: wrong tokens")
        check(computed(answer) == len(prompt) - loaded, f"{self.name}: computed", computed(answer))
        source = "vllm:prompt_tokens_cached_by_source/host"
        # It counts the last token too where that was loaded, which is computed in any case.
        check(loaded <= after.get(source, 0) - before.get(source, 0) <= loaded + 1,
              f"{self.name}: by vLLM's count were loaded", before, after)
        return (first, once["tokens"]), (again, answer["tokens"])


__all__ = ["Alone", "EngineError", "Nixl", "Offload", "PrefillAlone", "Push", "TwoSteps", "Wrong"]
