"""One process of a peer library's pair, started by compare_peers.py in that library's venv.

    peer_worker.py PEER target|initiator BYTES BLOCK_BYTES

Lines of JSON on stdin and stdout: the target says how it is reached; the initiator, told that, does
one transfer of all blocks for each {"do": "write", "seed": n} and answers {"seconds": s}. Blocks are
shuffled on both sides. What was written is compared by the target for {"do": "check", "seed": n}.
"""

import json
import mmap
import os
import sys
import time

import numpy

PATIENCE_S = 60
# Mooncake 0.3.13 hangs with batches of 3,072 and more.
MOONCAKE_BATCH = 2048
# A poll without a pause takes a core from the transfer.
POLL_S = 50e-6


class Memory:
    """Anonymous memory, pre-faulted, in blocks; `fill` says in each word which one it is."""

    def __init__(self, size, block):
        self.map = mmap.mmap(-1, size)
        self.map.madvise(mmap.MADV_HUGEPAGE)
        self.words = numpy.frombuffer(self.map, dtype=numpy.uint64)
        self.words[:] = 0
        self.base = self.words.ctypes.data
        self.size, self.block = size, block
        self.count = size // block

    def expected(self):
        return numpy.arange(1, len(self.words) + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)

    def fill(self):
        self.words[:] = self.expected()

    def order(self, seed):
        return numpy.random.default_rng(seed).permutation(self.count)

    def addresses(self, order):
        return self.base + order.astype(numpy.uint64) * numpy.uint64(self.block)

    def wrong(self, sent, here):
        blocks = self.words.reshape(self.count, -1)
        return int((blocks[here] != self.expected().reshape(self.count, -1)[sent]).sum())


class Nixl:
    def __init__(self, name, memory, transport):
        from nixl_cu13._api import nixl_agent, nixl_agent_config
        self.memory = memory
        self.agent = nixl_agent(name, nixl_agent_config(backends=[]))
        # Its shared memory does not work with the other mode.
        self.agent.create_backend(
            "UCX", {"ucx_error_handling_mode": "none"} if transport == "shm" else {})
        self.agent.register_memory([(memory.base, memory.size, 0, "")], "DRAM")

    def contact(self):
        return {"metadata": self.agent.get_agent_metadata().hex(), "base": self.memory.base}

    def connect(self, contact):
        self.remote = self.agent.add_remote_agent(bytes.fromhex(contact["metadata"]))
        self.remote_base = contact["base"]

    def prepare(self, here, there):
        def descriptors(base, order):
            addresses = base + order.astype(numpy.uint64) * numpy.uint64(self.memory.block)
            sizes = numpy.full(len(order), self.memory.block, dtype=numpy.uint64)
            devices = numpy.zeros(len(order), dtype=numpy.uint64)
            return self.agent.get_xfer_descs(
                numpy.stack([addresses, sizes, devices], axis=1), "DRAM")
        self.handle = self.agent.initialize_xfer(
            "WRITE", descriptors(self.memory.base, here), descriptors(self.remote_base, there),
            self.remote)

    def write(self):
        state = self.agent.transfer(self.handle)
        end = time.monotonic() + PATIENCE_S
        while state == "PROC" and time.monotonic() < end:
            time.sleep(POLL_S)
            state = self.agent.check_xfer_state(self.handle)
        if state != "DONE":
            raise RuntimeError(f"NIXL ended in {state}")

    def clean(self):
        self.agent.release_xfer_handle(self.handle)


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

    def prepare(self, here, there):
        block = self.memory.block
        source = [int(self.memory.base + int(b) * block) for b in here]
        to = [int(self.remote_base + int(b) * block) for b in there]
        self.batches = [(source[i:i + MOONCAKE_BATCH], to[i:i + MOONCAKE_BATCH])
                        for i in range(0, len(source), MOONCAKE_BATCH)]

    def write(self):
        for source, to in self.batches:
            sizes = [self.memory.block] * len(source)
            if self.engine.batch_transfer_sync_write(self.target, source, to, sizes) != 0:
                raise RuntimeError("Mooncake's transfer failed")

    def clean(self):
        pass


def say(**fields):
    print(json.dumps(fields), flush=True)


def main():
    peer, role, size, block = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    library, transport = peer.split("-")
    # Libraries print to stdout too: results keep a descriptor of their own.
    sys.stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
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
        elif request["do"] == "poison":
            memory.words[:] = 0
            say(ok=True)
        elif request["do"] == "write":
            seed = request["seed"]
            engine.prepare(memory.order(2 * seed), memory.order(2 * seed + 1))
            began = time.monotonic()
            engine.write()
            seconds = time.monotonic() - began
            engine.clean()
            say(seconds=seconds)
        elif request["do"] == "check":
            seed = request["seed"]
            say(wrong=memory.wrong(memory.order(2 * seed), memory.order(2 * seed + 1)))
    sys.stdout.flush()
    os._exit(0)  # NIXL 1.5.1 crashes when the interpreter takes it apart


if __name__ == "__main__":
    main()
