"""Baton beside NIXL and Mooncake on the same matrix, in turns: shuffled blocks from one process's
memory into another's, on this host.

    python3 perf/compare_peers.py [--bytes 256MiB] [--block-bytes 64KiB,16KiB,4KiB] [--rounds 7]

Each library runs in a virtual environment of its own, made on first use from PyPI (--venvs FOLDER).
One JSON object a line on stdout, in the form of `baton bench --json`: ours against the peer named
in `reference`; `ratio` above 1 means that Baton is faster. What is not the same: our handoff's time
includes OFFER, ACCEPT, and a checksum over every byte on both sides; a peer's is a bare write of
blocks whose descriptors are ready, until the writer is told that it is done.
"""

import argparse
import collections
import json
import math
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
LIMIT_S = 90  # of one answer


@dataclass
class Peer:
    name: str       # as peer_worker.py knows it
    venv: str
    wheels: tuple
    text: str
    channel: str    # ours that is compared with it
    environment: dict


# Each as it was the fastest on two cores. (The wheel of Mooncake without CUDA has no transport over
# shared memory. NIXL's is slower with cma, one copy by the system, than with two through posix.)
PEERS = [
    Peer("nixl-tcp", "nixl", ("--no-deps", "nixl-cu13==1.5.1", "numpy"), "NIXL 1.5.1 over tcp",
         "tcp", {"UCX_TLS": "tcp", "UCX_NET_DEVICES": "lo"}),
    Peer("mooncake-tcp", "mooncake", ("mooncake-transfer-engine-non-cuda==0.3.13",),
         "Mooncake 0.3.13 over tcp", "tcp", {"MC_TCP_ENABLE_CONNECTION_POOL": "1"}),
    Peer("nixl-shm", "nixl", ("--no-deps", "nixl-cu13==1.5.1", "numpy"),
         "NIXL 1.5.1 over shared memory", "local", {"UCX_TLS": "posix,self"}),
]


class PeerFailed(Exception):
    """The peer gave no figure: said, and the others go on."""


class WrongBytes(Exception):
    pass


def note(text):
    print(f"compare_peers: {text}", file=sys.stderr, flush=True)


def bytes_of(text):
    unit = text.lstrip("0123456789")
    number = text[:len(text) - len(unit)]
    if not number or int(number) == 0 or unit not in {"", *UNITS}:
        raise argparse.ArgumentTypeError(f"'{text}' is no size like 64KiB")
    return int(number) * UNITS.get(unit, 1)


def python_of(peer, venvs):
    """Of the library's virtual environment, which is made if it is not there."""
    folder = venvs / peer.venv
    python = folder / "bin/python"
    if python.exists():
        return python
    note(f"making {folder}")
    try:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, stdout=sys.stderr)
        subprocess.run([python, "-m", "pip", "-q", "install", *peer.wheels], check=True,
                       stdout=sys.stderr)
    except subprocess.CalledProcessError as error:
        shutil.rmtree(folder, ignore_errors=True)  # half of one would be taken for a whole one
        raise PeerFailed(f"no {folder}: {error}") from error
    return python


def at_priority(command):
    """The peers' threads poll: whatever else wants a core slows them down more than us. Theirs and
    ours run at the same priority, above others' where that is allowed."""
    return (["nice", "-n", "-15"] if os.geteuid() == 0 else []) + [str(word) for word in command]


class Worker:
    """Ends with this process, even while it is stopped."""

    def __init__(self, peer, python, role, size, block):
        self.role = role
        self.process = subprocess.Popen(
            at_priority(["setpriv", "--pdeathsig", "KILL", python, HERE / "peer_worker.py",
                         peer.name, role, size, block]),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            env={**os.environ, **peer.environment})

    def answer(self):
        if not select.select([self.process.stdout], [], [], LIMIT_S)[0]:
            raise PeerFailed(f"the {self.role} said nothing for {LIMIT_S} s")
        line = self.process.stdout.readline()
        if not line:
            raise PeerFailed(f"the {self.role} ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, **request):
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError as error:
            raise PeerFailed(f"the {self.role} ended with {self.process.wait()}") from error
        return self.answer()

    def signal(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class PeerPair:
    def __init__(self, peer, python, size, block):
        self.workers = []
        try:
            self.target = self.start(peer, python, "target", size, block)
            contact = self.target.answer()
            self.initiator = self.start(peer, python, "initiator", size, block)
            self.initiator.answer()
            self.initiator.ask(do="connect", contact=contact)
        except BaseException:
            self.end()
            raise

    def start(self, *arguments):
        self.workers.append(Worker(*arguments))
        return self.workers[-1]

    def once(self, seed):
        """Seconds until the writer, and until the target was told; None where it never is."""
        self.target.ask(do="receive")
        written = self.initiator.ask(do="write", seed=seed)
        told_at = self.target.answer()["told_at"]
        wrong = self.target.ask(do="check", seed=seed)["wrong"]
        if wrong:
            raise WrongBytes(f"{wrong} blocks of the peer's are wrong")
        return (written["ended"] - written["began"],
                told_at and max(told_at, written["ended"]) - written["began"])

    def stop(self):
        """Nothing of theirs runs, or polls, in our turn."""
        for worker in self.workers:
            worker.signal(signal.SIGSTOP)

    def go_on(self):
        for worker in self.workers:
            worker.signal(signal.SIGCONT)

    def end(self):
        self.go_on()
        for worker in reversed(self.workers):
            worker.end()


def ours_once(bench, channel, size, block):
    """The line of one sample: a pair of processes of its own, warmed up with one handoff."""
    done = subprocess.run(
        at_priority([bench, "handoff", "--json", "--samples", "1", "--channel", channel,
                     "--bytes", size, "--block-bytes", block]),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=LIMIT_S)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def quantile(values, share):
    """Nearest rank, as in measure.h."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def result(peer, lines, theirs, told):
    """The line of all rounds. `lines` are baton-bench's, the others seconds."""
    size = lines[0]["bytes"]
    ours = [line["median_ms"] * 1e-3 for line in lines]
    floor = [line["also"]["reference_median_ms"] * 1e-3 for line in lines]
    median, against = statistics.median(ours), statistics.median(theirs)

    def rate(seconds):
        return float(f"{size / seconds / 1e9:.4g}")

    def ms(seconds):
        return float(f"{seconds * 1e3:.4g}")

    spread = (quantile(theirs, 0.95) - quantile(theirs, 0.05)) / against
    also = {"best_GBps": rate(min(ours)), "reference_best_GBps": rate(min(theirs)),
            "reference_median_ms": ms(against), "reference_p95_ms": ms(quantile(theirs, 0.95)),
            "reference_spread": round(spread, 4)}
    if told:
        also["reference_told_GBps"] = rate(statistics.median(told))
    also |= {"floor": lines[0]["reference"], "floor_GBps": rate(statistics.median(floor)),
             "share_of_floor": round(statistics.median(floor) / median, 4),
             "reference_share_of_floor": round(statistics.median(floor) / against, 4)}
    return {
        "name": "compare_peers", "parameters": {"peer": peer.name, **lines[0]["parameters"]},
        "bytes": size, "goodput_GBps": rate(median), "reference": peer.text,
        "reference_GBps": rate(against), "ratio": round(against / median, 4),
        "median_ms": ms(median), "p95_ms": ms(quantile(ours, 0.95)), "p99_ms": None,
        "samples": len(lines),
        "blame": collections.Counter(line["blame"] for line in lines).most_common(1)[0][0],
        "also": also, "machine": lines[0]["machine"],
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def compare(peer, python, bench, size, block, rounds):
    pair = PeerPair(peer, python, size, block)
    lines, theirs, told = [], [], []

    def ours():
        pair.stop()
        lines.append(ours_once(bench, peer.channel, size, block))
        pair.go_on()

    try:
        pair.once(0)
        for r in range(1, rounds + 1):
            if r % 2 == 0:
                ours()
            seconds, told_after = pair.once(r)
            theirs.append(seconds)
            if told_after:
                told.append(told_after)
            if r % 2 != 0:
                ours()
    finally:
        pair.end()
    return result(peer, lines, theirs, told)


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bytes", type=bytes_of, default=256 << 20)
    parser.add_argument("--block-bytes", default="64KiB,16KiB,4KiB",
                        type=lambda text: [bytes_of(t) for t in text.split(",")])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peer", action="append", choices=[p.name for p in PEERS],
                        help="only this one (repeatable)")
    parser.add_argument("--bench", type=Path, default=HERE.parent / "build/baton-bench")
    parser.add_argument("--venvs", type=Path, default=HERE.parent / "build/peers")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds: expected 1 or more")
    for block in options.block_bytes:
        if options.bytes % block != 0:
            parser.error(f"--bytes: {options.bytes} are no whole blocks of {block}")
    if not options.bench.exists():
        parser.error(f"--bench: there is no {options.bench} (build it first)")
    return options


def main():
    options = parse()
    failed = 0
    for peer in PEERS:
        if options.peer and peer.name not in options.peer:
            continue
        for block in options.block_bytes:
            note(f"{peer.name}, blocks of {block} bytes")
            try:
                line = compare(peer, python_of(peer, options.venvs), options.bench, options.bytes,
                               block, options.rounds)
            except PeerFailed as error:
                note(f"no figure of {peer.name} with blocks of {block} bytes: {error}")
                failed += 1
                continue
            except WrongBytes as error:
                raise SystemExit(f"compare_peers: {error}") from error
            print(json.dumps(line), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
