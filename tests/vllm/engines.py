"""Engines as processes of their own: what tests use."""

import concurrent.futures
import os
import threading
import uuid
from pathlib import Path

from engine import EngineProcess

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Where run.py has built the module baton_faults.
FAULTS = os.environ.get("BATON_VLLM_FAULTS", str(ROOT / "build-python/tests/vllm/faults"))
ANSWER_S = 600


class Engine(EngineProcess):
    """A process with one engine. Calls wait for their answer; one at a time."""

    def __init__(self, name, setup, log, core=None):
        # "0|1": a rank on each core.
        binding = {} if core is None else {"VLLM_CPU_OMP_THREADS_BIND": str(core)}
        modules = [str(ROOT / "perf/vllm"), FAULTS, os.environ.get("PYTHONPATH")]
        super().__init__(name, HERE / "engine_process.py", setup, log,
                         {**binding, "PYTHONPATH": os.pathsep.join(filter(None, modules))})
        self._one = threading.Lock()

    def call(self, do, *arguments, deadline=ANSWER_S):
        with self._one:
            return self.wait(self.send(do, **{"with": arguments}), deadline)

    def generate(self, requests, deadline=ANSWER_S):
        return self.call("generate", requests, deadline=deadline)


class Pair:
    """A prefiller and a decoder."""

    def __init__(self, prefiller, decoder):
        self.prefiller = prefiller
        self.decoder = decoder
        self._threads = concurrent.futures.ThreadPoolExecutor(2)

    def push(self, requests):
        """Both legs of each request at once, as the router sends them. `requests`: {"prompt",
        "max_tokens", "salt"}. Answers of the prefiller and of the decoder."""
        nodes = [engine.call("nodes") for engine in (self.prefiller, self.decoder)]
        prefills, decodes = [], []
        for request in requests:
            handoff = {"handoff": str(uuid.uuid4()), "attempt": 1, "flow": "push",
                       "budget_ms": 60_000}
            prefills.append({**request, "max_tokens": 1, "params": {
                "baton": {**handoff, "role": "prefill", "peer": nodes[1]}}})
            decodes.append({**request, "params": {
                "baton": {**handoff, "role": "decode", "peer": nodes[0]}}})
        legs = [self._threads.submit(engine.generate, leg) for engine, leg in
                ((self.prefiller, prefills), (self.decoder, decodes))]
        return [leg.result() for leg in legs]

    def two_step(self, requests):
        """The prefiller first; what it answers goes to the decoder as it is."""
        first = self.prefiller.generate([
            {**request, "max_tokens": 1, "params": {"do_remote_decode": True}}
            for request in requests])
        second = self.decoder.generate([{**request, "params": leg["params"]}
                                        for request, leg in zip(requests, first)])
        return first, second
