"""Real processes for tests: engines and routers of the build under test, on ports that the
system chooses, all of them gone when the test is over.

    def test_something(baton):                       # the fixture in conftest.py
        cluster = baton.cluster(prefillers=1, decoders=2)
        answer = cluster.router.complete([1, 2, 3])
        assert answer.tokens == baton.alone().complete([1, 2, 3]).tokens
        cluster.decoders[0].kill()
"""

import json
import os
import random
import select
import signal
import subprocess
import time
from pathlib import Path

from built import has_ucx
from client import Api

BUILD = Path(os.environ.get("BATON_BUILD", Path(__file__).resolve().parents[2] / "build"))
PRESET = os.environ.get("BATON_PRESET", "release")
SANITIZED = PRESET != "release"
HAS_UCX = has_ucx(BUILD)
# The channel that is asked for, and what answers and metrics must call what was used: on one host
# auto is shared memory.
TRANSPORTS = {"auto": "local", "local": "local", "tcp": "tcp", "ucx": "ucx:tcp"}
CHANNEL = os.environ.get("BATON_CHANNEL", "local")
TRANSPORT = TRANSPORTS[CHANNEL]

# A model of two megabytes whose answers depend on every token of the prompt; smaller under
# sanitizers. Its tokens are bytes and a few special ones.
MODEL = ("random:layers=2,heads=4,kv_heads=2,head_dim=16,hidden=64,ffn=128" if SANITIZED else
         "random:layers=4,heads=8,kv_heads=4,head_dim=16,hidden=128,ffn=256")
LAYERS, KV_HEADS, HEAD_DIM = (2, 2, 16) if SANITIZED else (4, 4, 16)
KV_BYTES_PER_TOKEN = LAYERS * 2 * KV_HEADS * HEAD_DIM * 4  # all layers, K and V, float32

ENGINE_DEFAULTS = {"model": MODEL, "block_tokens": 16, "chunk_tokens": 64, "kv_blocks": 512,
                   "channel": CHANNEL,
                   "threads": 1}
SANITIZER_REPORT = ("ERROR: AddressSanitizer", "WARNING: ThreadSanitizer", "LeakSanitizer",
                    "runtime error:")


def rounds(n):
    """How often to repeat: `n` times, under sanitizers a tenth of that but at least twice."""
    return max(2, n // 10) if SANITIZED else n


def scaled(seconds):
    """A deadline for what takes longer under sanitizers. Never for a time the product promises."""
    return seconds * 5 if SANITIZED else seconds


def prompt_of(tokens, seed=0):
    """A prompt of that many tokens (bytes), different for each (tokens, seed)."""
    return random.Random(f"{tokens} {seed}").choices(range(256), k=tokens)


def wait_for(condition, seconds, what):
    """Polls until condition() is true and returns its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s still not: {what}")
        time.sleep(0.005)


class Process:
    """A program of the build, started and ready. `ready` is what its READY line says. It dies
    with the thread that started it, so that nothing outlives a test run that is killed: start
    processes on the test's own thread."""

    def __init__(self, name, arguments, folder, env=None, program=None):
        self.name = name
        self.arguments = [str(word) for word in arguments]
        self.log_path = folder / f"{name}.log"
        self.out_path = folder / f"{name}.out"
        with open(self.out_path, "wb") as out, open(self.log_path, "wb") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self.arguments], stdin=subprocess.DEVNULL,
                stdout=out, stderr=log, env={**os.environ, **(env or {})})
        self.pid = self._process.pid
        self.pidfd = os.pidfd_open(self.pid)
        self.expected_to_end = False
        self.ready = None
        self.token = (env or {}).get("BATON_TOKEN")
        self._problems = None  # once ended

    def wait_ready(self, seconds=20):
        def ready_line():
            line, newline, _ = self.out_path.read_bytes().partition(b"\n")
            if newline:
                return line.decode()
            assert self.alive, f"{self.name} ended with {self.exit_code}:\n{self.tail()}"
            return None
        line = wait_for(ready_line, scaled(seconds), f"{self.name} is ready")
        assert line.startswith("READY "), line
        self.ready = json.loads(line[len("READY "):])
        return self

    @property
    def alive(self):
        return self._process.poll() is None

    @property
    def exit_code(self):
        """None while it runs; negative: ended by that signal."""
        return self._process.poll()

    def send_signal(self, number):
        signal.pidfd_send_signal(self.pidfd, number)

    def kill(self):
        """SIGKILL, and waits until the process is gone."""
        self.expected_to_end = True
        self.send_signal(signal.SIGKILL)
        self.wait(10)

    def pause(self):
        """SIGSTOP, and waits until every thread stands."""
        self.send_signal(signal.SIGSTOP)
        wait_for(lambda: self._states() <= {"T"}, 10, f"{self.name} stands still")

    def resume(self):
        self.send_signal(signal.SIGCONT)

    def terminate(self):
        """SIGTERM; does not wait."""
        self.expected_to_end = True
        self.send_signal(signal.SIGTERM)

    def wait(self, seconds):
        """Waits for the end; returns the exit code."""
        if self._process.returncode is None and not select.select([self.pidfd], [], [], seconds)[0]:
            raise AssertionError(f"{self.name} still runs after {seconds} s")
        return self._process.wait()

    def _states(self):
        tasks = Path(f"/proc/{self.pid}/task")
        return {(task / "stat").read_text().rpartition(")")[2].split()[0]
                for task in tasks.iterdir()}

    @property
    def log(self):
        return self.log_path.read_text(errors="replace")

    def tail(self, lines=60):
        return "\n".join(self.log.splitlines()[-lines:])

    def resident_bytes(self):
        fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def open_descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def end(self):
        """Stops it as gently as it lets us; returns what is wrong with how it lived and ended.
        Again: the same."""
        if self._problems is not None:
            return self._problems
        problems = self._problems = []
        if self.alive:
            self.resume()
            self.send_signal(signal.SIGTERM)
            try:
                code = self.wait(scaled(10))
                if code != 0:
                    problems.append(f"{self.name}: exit code {code} after SIGTERM")
            except AssertionError:
                problems.append(f"{self.name}: still there {scaled(10)} s after SIGTERM")
                self.send_signal(signal.SIGKILL)
                self.wait(10)
        elif not self.expected_to_end:
            problems.append(f"{self.name}: ended by itself with {self.exit_code}:\n{self.tail(30)}")
        os.close(self.pidfd)
        if any(report in self.log for report in SANITIZER_REPORT):
            problems.append(f"{self.name}: sanitizer report in its log")
        return problems


class Engine(Process):
    """A reference_engine. `api` is its OpenAI API, `node` the HTTP of its node."""

    def wait_ready(self, seconds=20):
        super().wait_ready(seconds)
        self.api = Api(self.ready["listen"], scaled(60))
        if "node_http" in self.ready:
            self.node = Api(self.ready["node_http"], scaled(10), self.token)
        return self

    def complete(self, *arguments, **fields):
        return self.api.complete(*arguments, **fields)

    def metrics(self):
        """Of the node."""
        return self.node.metrics()

    def debug(self):
        """{"handoffs": [{id, attempt, role, state, …}], "slots": {total, free, …}}"""
        answer = self.node.get("/debug/handoffs")
        assert answer.status == 200, answer
        return answer.json

    def handoffs(self):
        return self.debug()["handoffs"]

    @property
    def kv_blocks(self):
        return int(self.arguments[self.arguments.index("--kv-blocks") + 1])

    def unrest(self):
        """(debug(), what keeps it from being idle: {what: (how much, how much it should be)}).
        Idle: nobody computes, no handoff lives, and nothing is held but what the host tier keeps: a
        slot for each of its chunks, no KV block."""
        debug, metrics = self.debug(), self.metrics()
        pools = debug["slots"]["pools"]
        found = {
            "handoffs": (len(debug["handoffs"]), 0),
            "quarantined": (debug["slots"]["quarantined"], 0),
            "transit slots held": (pools["transit"]["held"], 0),
            "retained slots held": (pools["retained"]["held"] if "retained" in pools else 0,
                                    debug["host_tier"]["chunks"]),
            "free KV blocks": (metrics.value("baton_engine_free_kv_blocks"), self.kv_blocks),
            "sequences": (metrics.value("baton_engine_running_sequences")
                          + metrics.value("baton_engine_waiting_sequences"), 0)}
        return debug, {what: pair for what, pair in found.items() if pair[0] != pair[1]}

    def wait_idle(self, seconds=10):
        """Until nothing keeps it from being idle. Returns what debug() said then."""
        seen = {}

        def idle():
            try:
                seen["debug"], seen["unrest"] = self.unrest()
            except AssertionError as error:  # a node that does not come to run says 503
                seen["unrest"] = str(error)
            return not seen["unrest"]
        try:
            wait_for(idle, scaled(seconds), "idle")
        except AssertionError:
            raise AssertionError(f"{self.name} is not idle: {seen}") from None
        return seen["debug"]


class Store(Process):
    """A baton-store. `node` is the HTTP of its node."""

    def wait_ready(self, seconds=20):
        super().wait_ready(seconds)
        self.node = Api(self.ready["node_http"], scaled(10), self.token)
        return self

    def metrics(self):
        return self.node.metrics()

    def debug(self):
        answer = self.node.get("/debug/handoffs")
        assert answer.status == 200, answer
        return answer.json


class Router(Process):
    def wait_ready(self, seconds=20):
        super().wait_ready(seconds)
        self.api = Api(self.ready["listen"], scaled(60))
        return self

    def complete(self, *arguments, **fields):
        return self.api.complete(*arguments, **fields)

    def metrics(self):
        return self.api.metrics()


class Cluster:
    def __init__(self, prefillers, decoders, router):
        self.prefillers = prefillers
        self.decoders = decoders
        self.router = router

    @property
    def prefiller(self):
        return self.prefillers[0]

    @property
    def decoder(self):
        return self.decoders[0]

    @property
    def engines(self):
        return self.prefillers + self.decoders

    def complete(self, *arguments, **fields):
        return self.router.complete(*arguments, **fields)

    def wait_idle(self, seconds=10):
        """Every engine that lives is idle."""
        for engine in self.engines:
            if engine.alive:
                engine.wait_idle(seconds)


class Baton:
    """Starts processes for one test and ends them all."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = []

    def start(self, kind, name, program, arguments, env=None, wait=True):
        taken = sum(process.name.split(".")[0] == name for process in self.processes)
        unique = f"{name}.{taken + 1}" if taken else name
        process = kind(unique, [BUILD / program, *arguments], self.folder, env)
        self.processes.append(process)
        return process.wait_ready() if wait else process

    def engine(self, role, name=None, program="reference_engine", env=None, wait=True, **flags):
        """`flags` are the command line's, with underscores; True stands for a flag without value,
        None leaves a default out. Every address is on loopback, the port is the system's."""
        flags = {**ENGINE_DEFAULTS, "listen": "127.0.0.1:0", **flags}
        if role != "both":
            flags = {"node": "127.0.0.1:0", "node_http": "127.0.0.1:0", **flags}
        return self.start(Engine, name or role, program,
                          ["--role", role, *command_line(flags)], env, wait)

    def router(self, prefillers, decoders, name="router", env=None, wait=True, **flags):
        legs = []
        for flag, engines in (("--prefill", prefillers), ("--decode", decoders)):
            for engine in engines:
                ready = engine.ready
                legs += [flag, f"http://{ready['listen']}={ready['node']}@{ready['node_http']}"]
        flags = {"listen": "127.0.0.1:0", **flags}
        return self.start(Router, name, "baton-router", [*command_line(flags), *legs], env, wait)

    def store(self, name="store", env=None, wait=True, **flags):
        flags = {"node": "127.0.0.1:0", "node_http": "127.0.0.1:0", "channel": CHANNEL, **flags}
        return self.start(Store, name, "baton-store", command_line(flags), env, wait)

    def cluster(self, prefillers=1, decoders=1, prefill=None, decode=None, router=None, **common):
        """Engines and a router before them. `prefill`, `decode`: flags of that side only (a dict,
        or a list with one for each engine); `common`: of both; `router`: the router's."""
        started = {}
        for role, count, own in (("prefill", prefillers, prefill), ("decode", decoders, decode)):
            each = own if isinstance(own, list) else [own or {}] * count
            started[role] = [self.engine(role, wait=False, **{**common, **flags}) for flags in each]
        for engine in started["prefill"] + started["decode"]:
            engine.wait_ready()
        return Cluster(started["prefill"], started["decode"],
                       self.router(started["prefill"], started["decode"], **(router or {})))

    def alone(self, **flags):
        """One engine that does both: what every answer must equal."""
        return self.engine("both", name="alone", **flags)

    def end(self):
        """Ends everything, the router first; returns what went wrong."""
        problems = []
        for process in reversed(self.processes):
            problems += process.end()
        self.processes.clear()
        return problems

    def logs(self):
        return [(process.name, " ".join(process.arguments), process.tail())
                for process in self.processes]


def command_line(flags):
    words = []
    for name, value in flags.items():
        if value is None or value is False:
            continue
        words.append("--" + name.replace("_", "-"))
        if value is not True:
            words.append(value)
    return words
