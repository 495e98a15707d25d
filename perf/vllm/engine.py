"""An engine in a process of its own, as the measuring program holds it, and the tests of
tests/vllm."""

import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
START_S, ANSWER_S = 900, 90


class EngineError(Exception):
    """It did not start, ended, or gave no answer; the text says which and where its log is."""


def baton(role, policy="recompute", **options):
    """vLLM's kv_transfer_config for our connector."""
    return {"kv_connector": "BatonConnector", "kv_connector_module_path": "baton.vllm",
            "kv_role": role, "kv_load_failure_policy": policy, "kv_connector_extra_config": options}


class EngineProcess:
    """A program that answers commands, a JSON object a line each way; its first answer, with the
    id 0, is that it is ready. It ends when its input does, so with this process."""

    def __init__(self, name, program, setup, log, environment, within=()):
        """`within`: a command that runs it."""
        self.name, self.log = name, Path(log)
        self._ids = itertools.count(1)
        self._answers = {0: queue.Queue()}
        self._lock = threading.Lock()
        self._ended = False
        with open(log, "ab") as stderr:
            self.process = subprocess.Popen(
                [*within, sys.executable, str(program), json.dumps(setup)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True,
                env={**os.environ, **environment})
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            answer = json.loads(line)
            with self._lock:
                waiting = self._answers.get(answer["id"])
            if waiting is not None:
                waiting.put(answer)
        with self._lock:
            self._ended = True
            for waiting in self._answers.values():
                waiting.put({"error": "its process has ended"})

    def send(self, do, **what):
        """The id that wait() is to be asked for."""
        number = next(self._ids)
        with self._lock:
            self._answers[number] = queue.Queue()
            if self._ended:
                self._answers[number].put({"error": "its process has ended"})
        try:
            self.process.stdin.write(json.dumps({"do": do, "id": number, **what}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # then the answer says so
        return number

    def wait(self, number, deadline=ANSWER_S):
        try:
            answer = self._answers[number].get(timeout=deadline)
        except queue.Empty:
            raise EngineError(f"{self.name}: no answer within {deadline} s (log: {self.log})")
        with self._lock:
            del self._answers[number]
        if "error" in answer:
            raise EngineError(f"{self.name}: {answer['error']} (log: {self.log})")
        return answer["value"]

    def wait_ready(self):
        self.wait(0, START_S)
        return self

    def call(self, do, deadline=ANSWER_S, **what):
        return self.wait(self.send(do, **what), deadline)

    def stand_still(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def end(self, deadline=60):
        """Its exit code; None where it had to be killed."""
        if self.process.poll() is None:
            self.go_on()
            self.process.stdin.close()
            try:
                self.process.wait(deadline)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                return None
        return self.process.returncode


class Engine(EngineProcess):
    """worker.py, its computing thread on one core. It ends with this process even while it stands
    still."""

    def __init__(self, name, core, setup, log, environment=None, yielding=False):
        """`yielding`: its threads that do not compute run where and when nobody else would."""
        # What vLLM's own launcher makes of VLLM_CPU_OMP_THREADS_BIND=<core> for a worker process;
        # in an engine without one nobody does it.
        binding = {"OMP_NUM_THREADS": "1", "OMP_PLACES": f"{{{core}}}", "OMP_PROC_BIND": "true"}
        super().__init__(name, HERE / "worker.py", setup, log, {**binding, **(environment or {})},
                         ("setpriv", "--pdeathsig", "KILL"))
        self.core, self._yielding = core, yielding

    def wait_ready(self):
        """Which cores its threads were on, and are now."""
        super().wait_ready()
        return self.call("bind", core=self.core, yielding=self._yielding)
