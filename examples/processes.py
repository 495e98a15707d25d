"""Runs the quickstart's helpers and programs, so that whatever happens nothing is left behind."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

READY_LIMIT_S = 60
STOP_LIMIT_S = 10
# The reference engine's: 512 blocks of 16 tokens, 0.4 GB for SmolLM2.
ENGINE_FLAGS = ["--block-tokens", "16", "--chunk-tokens", "256", "--kv-blocks", "512",
                "--threads", str(min(os.cpu_count() or 1, 8))]
LOOPBACK = "127.0.0.1:0"


class ProgramEnded(Exception):
    pass


class Helper:
    """A command with all that it starts, in a process group of its own."""

    def __init__(self, command, **keywords):
        # It also ends if this process is killed and cannot see to it.
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *map(str, command)],
                                        start_new_session=True, **keywords)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait()


def run(command, **keywords):
    """Runs a command to its end; its exit code."""
    with Helper(command, **keywords) as helper:
        return helper.process.wait()


class Program:
    def __init__(self, name, process, out_path, log_path):
        self.name = name
        self.process = process
        self.out_path = out_path
        self.log_path = log_path
        self.addresses = {}  # listen, node, node_http: what it says it listens on

    def log_tail(self, lines=25):
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def check_alive(self):
        if self.process.poll() is not None:
            raise ProgramEnded(f"{self.name} ended with exit code {self.process.returncode}; "
                               f"its last lines:\n{self.log_tail()}")


class Programs:
    """Everything that was started; use as a context: leaving it stops everything."""

    def __init__(self, build):
        self.build = build
        self.folder = Path(tempfile.mkdtemp(prefix="baton-quickstart-"))
        self.started = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self, name, program, *arguments):
        """Starts without waiting: wait_ready() does. What is started dies with this process, even
        if this process is killed."""
        out_path, log_path = self.folder / f"{name}.out", self.folder / f"{name}.log"
        command = ["setpriv", "--pdeathsig", "KILL", str(self.build / program),
                   *map(str, arguments)]
        with open(out_path, "wb") as out, open(log_path, "wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=log,
                                       start_new_session=True)
        started = Program(name, process, out_path, log_path)
        self.started.append(started)
        return started

    def wait_ready(self, program):
        deadline = time.monotonic() + READY_LIMIT_S
        while b"\n" not in (said := program.out_path.read_bytes()):
            program.check_alive()
            if time.monotonic() > deadline:
                raise ProgramEnded(f"{program.name} is not ready after {READY_LIMIT_S} s; "
                                   f"its last lines:\n{program.log_tail()}")
            time.sleep(0.02)
        program.addresses = json.loads(said.split(b"\n")[0].removeprefix(b"READY "))
        return program

    def check_alive(self):
        for program in self.started:
            program.check_alive()

    def end(self, program):
        """Stops one of them, by SIGTERM."""
        program.process.send_signal(signal.SIGTERM)
        program.process.wait()
        self.started.remove(program)

    def stop(self):
        """SIGTERM to all, the last started first; SIGKILL to what is still there in the end."""
        for number, limit_s in ((signal.SIGTERM, STOP_LIMIT_S), (signal.SIGKILL, STOP_LIMIT_S)):
            living = [each for each in reversed(self.started) if each.process.poll() is None]
            for program in living:
                program.process.send_signal(number)
            deadline = time.monotonic() + limit_s
            for program in living:
                try:
                    program.process.wait(max(0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    print(f"{program.name} does not stop", flush=True)
        self.started.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
