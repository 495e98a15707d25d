"""perf/compare_peers.py with a stand-in for the peer's library, on tiny sizes: that it answers in
the form that is promised, sees wrong bytes, and gets over a peer that fails. Never how fast
anything was."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from baton import BUILD, scaled
from test_bench import FIELDS, check

SCRIPT = Path(__file__).resolve().parents[2] / "perf/compare_peers.py"

# mooncake.engine as far as peer_worker.py calls it: the target writes what comes over a connection
# to the address that comes with it.
ENGINE = '''
import ctypes, os, socket, struct, threading

HEAD = struct.Struct("<QQ")
FAULT = "{fault}"


class TransferEngine:
    def initialize(self, host, metadata, protocol, device):
        print("a library that logs to stdout")
        self.listener = socket.create_server((host, 0))
        threading.Thread(target=self.serve, daemon=True).start()
        return 0

    def get_rpc_port(self):
        return self.listener.getsockname()[1]

    def register_memory(self, base, size):
        return 0

    def serve(self):
        while True:
            stream = self.listener.accept()[0].makefile("rwb")
            while head := stream.read(HEAD.size):
                address, size = HEAD.unpack(head)
                ctypes.memmove(address, stream.read(size), size)
            stream.write(b"k")
            stream.close()

    def batch_transfer_sync_write(self, target, source, to, sizes):
        if FAULT == "dies":
            os._exit(7)
        if FAULT == "refuses":
            return -1
        host, port = target.split(":")
        with socket.create_connection((host, int(port))) as connection:
            for address, there, size in zip(source, to, sizes):
                content = bytearray(ctypes.string_at(address, size))
                content[-1] ^= FAULT == "spoils" and address == max(source)
                connection.sendall(HEAD.pack(there, size) + content)
            connection.shutdown(socket.SHUT_WR)
            return 0 if connection.recv(1) == b"k" else -1
'''


@pytest.fixture
def compare(tmp_path):
    def run(*arguments, fault="", code=0):
        package = tmp_path / "fakes/mooncake"
        package.mkdir(parents=True)
        (package / "engine.py").write_text(ENGINE.replace("{fault}", fault))
        python = tmp_path / "venvs/mooncake/bin/python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nPYTHONPATH={package.parent} exec {sys.executable} -B "$@"\n')
        python.chmod(0o755)
        done = subprocess.run(
            [sys.executable, SCRIPT, "--peer", "mooncake-tcp", "--venvs", tmp_path / "venvs",
             "--bench", BUILD / "baton-bench", "--bytes", "1MiB", "--rounds", "2", *arguments],
            capture_output=True, text=True, timeout=scaled(100))
        assert done.returncode == code, done.stderr
        return done
    return run


def test_a_line_for_each_size(compare):
    done = compare("--block-bytes", "8KiB,4KiB")
    lines = [json.loads(text) for text in done.stdout.splitlines()]
    assert [line["parameters"]["block_bytes"] for line in lines] == [8192, 4096]
    for line in lines:
        assert list(line) == FIELDS
        check(line)
        assert line["reference"].startswith("Mooncake") and line["bytes"] == 1 << 20
        assert line["parameters"]["peer"] == "mooncake-tcp"
        assert line["parameters"]["channel"] == "tcp"
        assert line["ratio"] == pytest.approx(
            line["also"]["reference_median_ms"] / line["median_ms"], rel=0.01)
        assert line["also"]["reference_p95_ms"] >= line["also"]["reference_median_ms"]
        assert "plain socket" in line["also"]["floor"]


def test_wrong_bytes_of_a_peer_end_it(compare):
    done = compare("--block-bytes", "4KiB", fault="spoils", code=1)
    assert "1 blocks of the peer's are wrong" in done.stderr and done.stdout == ""


@pytest.mark.parametrize("fault, said", [("dies", "ended with 7"), ("refuses", "ended with 1")])
def test_a_peer_that_fails_gives_no_figure(compare, fault, said):
    done = compare("--block-bytes", "8KiB,4KiB", fault=fault, code=1)
    assert done.stdout == ""
    for block in (8192, 4096):
        assert f"no figure of mooncake-tcp with blocks of {block} bytes: the initiator {said}" \
            in done.stderr


@pytest.mark.parametrize("arguments, named", [
    (["--block-bytes", "12 parsecs"], "12 parsecs"),
    (["--bytes", "0"], "'0'"),
    (["--bytes", "10KiB", "--block-bytes", "4KiB"], "no whole blocks of 4096"),
    (["--rounds", "0"], "--rounds"),
    (["--peer", "pigeon"], "pigeon"),
    (["--bench", "no/such/program"], "no/such/program"),
])
def test_wrong_words(compare, arguments, named):
    done = compare(*arguments, code=2)
    assert named in done.stderr and done.stdout == ""
