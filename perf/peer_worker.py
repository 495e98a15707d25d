"""One process of a peer library's pair, started by compare_peers.py in that library's venv.

    peer_worker.py PEER target|initiator BYTES BLOCK_BYTES

Lines of JSON on stdin and stdout. The target says how it is reached; the initiator, told that, does
one transfer of all blocks for each {"do": "write", "seed": n}, while the target is in {"do":
"receive"}. Blocks are shuffled on both sides. What was written is compared by the target for {"do":
"check", "seed": n}. Times are of CLOCK_MONOTONIC, which the processes of a host share.
"""

import ctypes
import json
import mmap
import os
import random
import sys
import time

PATIENCE_S = 60
# Mooncake 0.3.13 hangs with batches of 3,072 and more.
MOONCAKE_BATCH = 2048
POISON = 0xDB


class Memory:
    """Anonymous memory in blocks, pre-faulted, in huge pages where the system gives them."""

    def __init__(self, size, block):
        self.map = mmap.mmap(-1, size)
        self.map.madvise(mmap.MADV_HUGEPAGE)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.size, self.block, self.count = size, block, size // block
        self.poison()
        # No block is like another. (One call makes less than 256 MiB.)
        words = random.Random(1)
        self.content = memoryview(b"".join(words.randbytes(block) for _ in range(self.count)))

    def poison(self):
        ctypes.memset(self.base, POISON, self.size)

    def fill(self):
        self.map[:] = self.content

    def order(self, seed):
        order = list(range(self.count))
        random.Random(seed).shuffle(order)
        return order

    def orders(self, seed):
        """Of a transfer: the blocks that are read, and those where they belong."""
        return self.order(2 * seed), self.order(2 * seed + 1)

    def wrong(self, seed):
        """How many blocks are not what was sent there."""
        here, size = memoryview(self.map), self.block
        return sum(here[to * size:(to + 1) * size] != self.content[a * size:(a + 1) * size]
                   for a, to in zip(*self.orders(seed)))


class Nixl:
    def __init__(self, name, memory, transport):
        from nixl_cu13._api import nixl_agent, nixl_agent_config
        self.memory = memory
        # Without its progress threads, which poll without end: on two cores two of them and the two
        # threads that wait for the transfer bring it to less than half (1.3 for 3.3 GB/s over tcp).
        self.agent = nixl_agent(name, nixl_agent_config(backends=[], enable_prog_thread=False))
        # Its shared memory does not work with the other mode.
        self.agent.create_backend(
            "UCX", {"ucx_error_handling_mode": "none"} if transport == "shm" else {})
        self.agent.register_memory([(memory.base, memory.size, 0, "")], "DRAM")

    def contact(self):
        return {"metadata": self.agent.get_agent_metadata().hex(), "base": self.memory.base}

    def connect(self, contact):
        self.remote = self.agent.add_remote_agent(bytes.fromhex(contact["metadata"]))
        self.remote_base = contact["base"]

    def prepare(self, read, written):
        def descriptors(base, order):
            block = self.memory.block
            return self.agent.get_xfer_descs([(base + i * block, block, 0) for i in order], "DRAM")
        self.handle = self.agent.initialize_xfer(
            "WRITE", descriptors(self.memory.base, read), descriptors(self.remote_base, written),
            self.remote, b"written")

    def write(self):
        state = self.agent.transfer(self.handle)
        end = time.monotonic() + PATIENCE_S
        while state == "PROC" and time.monotonic() < end:
            state = self.agent.check_xfer_state(self.handle)
        if state != "DONE":
            raise RuntimeError(f"NIXL ended in {state}")

    def clean(self):
        self.agent.release_xfer_handle(self.handle)

    def receive(self):
        """Until it is told that all is written; what comes meanwhile moves on in these calls."""
        end = time.monotonic() + PATIENCE_S
        while not self.agent.get_new_notifs():
            if time.monotonic() > end:
                raise RuntimeError("NIXL: nothing came")
        return time.monotonic()


class Mooncake:
    def __init__(self, name, memory, transport):
        from mooncake.engine import TransferEngine
        self.memory = memory
        self.engine = TransferEngine()
        if self.engine.initialize("127.0.0.1", "P2PHANDSHAKE", transport, "") != 0:
            raise RuntimeError("Mooncake did not start")
        if self.engine.register_memory(memory.base, memory.size) != 0:
            raise RuntimeError("Mooncake did not register memory")

    def contact(self):
        return {"target": f"127.0.0.1:{self.engine.get_rpc_port()}", "base": self.memory.base}

    def connect(self, contact):
        self.target, self.remote_base = contact["target"], contact["base"]

    def prepare(self, read, written):
        block = self.memory.block
        source = [self.memory.base + i * block for i in read]
        to = [self.remote_base + i * block for i in written]
        self.batches = []
        for i in range(0, len(source), MOONCAKE_BATCH):
            some = source[i:i + MOONCAKE_BATCH], to[i:i + MOONCAKE_BATCH]
            self.batches.append((*some, [block] * len(some[0])))

    def write(self):
        for source, to, sizes in self.batches:
            if self.engine.batch_transfer_sync_write(self.target, source, to, sizes) != 0:
                raise RuntimeError("Mooncake's transfer failed")

    def clean(self):
        pass

    def receive(self):
        """Its own threads receive, and tell nobody."""
        return None


def main():
    peer, role, size, block = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    library, transport = peer.split("-")
    # Libraries print and log to stdout too: answers keep a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**fields):
        print(json.dumps(fields), file=answers, flush=True)

    memory = Memory(size, block)
    if role == "initiator":
        memory.fill()
    engine = {"nixl": Nixl, "mooncake": Mooncake}[library](role, memory, transport)
    say(**engine.contact())
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "connect":
            engine.connect(request["contact"])
            say(ok=True)
        elif request["do"] == "receive":
            memory.poison()
            say(ok=True)
            say(told_at=engine.receive())
        elif request["do"] == "write":
            engine.prepare(*memory.orders(request["seed"]))
            began = time.monotonic()
            engine.write()
            ended = time.monotonic()
            engine.clean()
            say(began=began, ended=ended)
        elif request["do"] == "check":
            say(wrong=memory.wrong(request["seed"]))
    os._exit(0)  # NIXL 1.5.1 crashes when the interpreter takes it apart


if __name__ == "__main__":
    main()
