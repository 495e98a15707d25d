"""Baton beside NIXL and Mooncake on the same matrix, in turns: shuffled blocks from one process's
memory into another's, on this host.

    python3 perf/compare_peers.py [--bytes 256MiB] [--block-bytes 64KiB,16KiB,4KiB] [--rounds 7]

Each library runs in a virtual environment of its own, made on first use from PyPI (--venvs FOLDER).
One JSON object a line on stdout, in the form of `baton bench --json`: ours against the peer named in
`reference`; `ratio` above 1 means that Baton is faster. What is not the same: our handoff's time
includes OFFER, ACCEPT, and a checksum over every byte on both sides; a peer's is a bare write of
blocks whose descriptors are ready, until the writer is told that it is done.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass
class Peer:
    name: str       # as peer_worker.py knows it
    venv: str
    wheels: tuple
    text: str
    channel: str    # ours that is compared with it
    environment: dict


PEERS = [
    Peer("nixl-tcp", "nixl", ("--no-deps", "nixl-cu13==1.5.1", "numpy"), "NIXL 1.5.1 over tcp",
         "tcp", {"UCX_TLS": "tcp", "UCX_NET_DEVICES": "lo"}),
    Peer("nixl-shm", "nixl", ("--no-deps", "nixl-cu13==1.5.1", "numpy"),
         "NIXL 1.5.1 over shared memory", "local", {"UCX_TLS": "posix,cma,self"}),
    Peer("mooncake-tcp", "mooncake", ("mooncake-transfer-engine-non-cuda==0.3.13", "numpy"),
         "Mooncake 0.3.13 over tcp", "tcp", {}),
]


def note(text):
    print(f"compare_peers: {text}", file=sys.stderr, flush=True)


def bytes_of(text):
    unit = text.lstrip("0123456789")
    number = text[:len(text) - len(unit)]
    if not number or unit not in {"", *UNITS}:
        raise argparse.ArgumentTypeError(f"'{text}' is no size like 64KiB")
    return int(number) * UNITS.get(unit, 1)


def python_of(peer, venvs):
    python = venvs / peer.venv / "bin/python"
    if not python.exists():
        note(f"making {venvs / peer.venv}")
        subprocess.run([sys.executable, "-m", "venv", venvs / peer.venv], check=True)
        subprocess.run([python, "-m", "pip", "-q", "install", *peer.wheels], check=True,
                       stdout=sys.stderr)
    return python


class Worker:
    def __init__(self, peer, python, role, size, block):
        # The peers' threads poll: with a lower priority than others they stand still.
        prefix = ["nice", "-n", "-15"] if os.geteuid() == 0 else []
        self.process = subprocess.Popen(
            [*prefix, python, HERE / "peer_worker.py", peer.name, role, str(size), str(block)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **peer.environment})
        self.contact = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args[-3]} ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class PeerPair:
    def __init__(self, peer, python, size, block):
        self.target = Worker(peer, python, "target", size, block)
        self.initiator = Worker(peer, python, "initiator", size, block)
        self.initiator.ask(do="connect", contact=self.target.contact)

    def once(self, seed):
        self.target.ask(do="poison")
        seconds = self.initiator.ask(do="write", seed=seed)["seconds"]
        wrong = self.target.ask(do="check", seed=seed)["wrong"]
        if wrong:
            raise SystemExit(f"compare_peers: {wrong} words of the peer's are wrong")
        return seconds

    def end(self):
        self.initiator.end()
        self.target.end()


def ours_once(bench, channel, size, block):
    """A pair of its own for each sample, warmed up once; its seconds and the line."""
    done = subprocess.run(
        [bench, "handoff", "--json", "--samples", "1", "--channel", channel, "--layers", "32",
         "--bytes", str(size), "--block-bytes", str(block)], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(done.returncode)
    line = json.loads(done.stdout)
    return line["median_ms"] / 1e3, line


def compare(peer, python, bench, size, block, rounds):
    pair = PeerPair(peer, python, size, block)
    ours, theirs = [], []
    try:
        pair.once(0)
        for r in range(1, rounds + 1):
            theirs.append(pair.once(r))
            seconds, line = ours_once(bench, peer.channel, size, block)
            ours.append(seconds)
    finally:
        pair.end()
    median, against = statistics.median(ours), statistics.median(theirs)
    return {
        "name": "compare_peers",
        "parameters": {"peer": peer.name, "channel": peer.channel, "block_bytes": block},
        "bytes": size, "goodput_GBps": round(size / median / 1e9, 3), "reference": peer.text,
        "reference_GBps": round(size / against / 1e9, 3), "ratio": round(against / median, 3),
        "median_ms": round(median * 1e3, 3), "p95_ms": round(max(ours) * 1e3, 3), "p99_ms": None,
        "samples": rounds, "blame": line["blame"],
        "also": {"reference_best_GBps": round(size / min(theirs) / 1e9, 3),
                 "best_GBps": round(size / min(ours) / 1e9, 3)},
        "machine": line["machine"], "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bytes", type=bytes_of, default=256 << 20)
    parser.add_argument("--block-bytes", default="64KiB,16KiB,4KiB",
                        type=lambda text: [bytes_of(t) for t in text.split(",")])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peer", action="append", choices=[p.name for p in PEERS],
                        help="only this one (repeatable)")
    parser.add_argument("--bench", type=Path, default=HERE.parent / "build/baton-bench")
    parser.add_argument("--venvs", type=Path, default=HERE.parent / "build/peers")
    options = parser.parse_args()
    for peer in PEERS:
        if options.peer and peer.name not in options.peer:
            continue
        python = python_of(peer, options.venvs)
        for block in options.block_bytes:
            note(f"{peer.name}, blocks of {block} bytes")
            try:
                line = compare(peer, python, options.bench, options.bytes, block, options.rounds)
            except RuntimeError as error:
                note(f"{peer.name} with blocks of {block} bytes: {error}")
                continue
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
