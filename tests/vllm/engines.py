"""Engines as processes of their own: what tests use."""

import concurrent.futures
import json
import os
import queue
import subprocess
import sys
import threading
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parent


class EngineError(Exception):
    pass


class Engine:
    """A process with one engine. Calls wait for their answer; one at a time."""

    def __init__(self, name, setup, log, core=None):
        self.name = name
        self.log = Path(log)
        environment = dict(os.environ)
        if core is not None:
            # "0|1": a rank on each.
            environment["VLLM_CPU_OMP_THREADS_BIND"] = str(core)
        with open(log, "ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "engine_process.py"), json.dumps(setup)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True,
                env=environment)
        self._answers = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self._lock = threading.Lock()

    def _read(self):
        for line in self.process.stdout:
            if line.startswith("@"):
                self._answers.put(json.loads(line[1:]))
        self._answers.put({"error": f"{self.name} has ended"})

    def _answer(self, deadline):
        try:
            answer = self._answers.get(timeout=deadline)
        except queue.Empty:
            raise EngineError(f"{self.name}: no answer within {deadline} s (log: {self.log})")
        if "error" in answer:
            raise EngineError(f"{self.name}: {answer['error']}")
        return answer.get("value")

    def wait_ready(self, deadline=900):
        self._answer(deadline)
        return self

    def call(self, do, *arguments, deadline=600):
        with self._lock:
            self.process.stdin.write(json.dumps({"do": do, "with": arguments}) + "\n")
            self.process.stdin.flush()
            return self._answer(deadline)

    def generate(self, requests, deadline=600):
        return self.call("generate", requests, deadline=deadline)

    def end(self, deadline=60):
        """Its exit code; None where it had to be killed."""
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(deadline)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                return None
        return self.process.returncode


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
