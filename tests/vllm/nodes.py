"""Nodes over a little memory of their own, and what tests do with them."""

import ctypes
import os
import time
import uuid

import baton

LAYERS, BLOCKS, BLOCK_TOKENS, BLOCK_BYTES = 3, 64, 16, 1024
CHUNK_TOKENS = 32
DEADLINE_S = 20.0


def layout():
    it = baton.KvLayout()
    it.block_tokens = BLOCK_TOKENS
    it.opaque_block_bytes = it.block_stride = BLOCK_BYTES
    return it


def fingerprint(model="test"):
    it = baton.Fingerprint()
    it.model = model
    it.opaque_layout = "test"
    return it


class SmallNode:
    """An engine's memory, random or poisoned, and its node."""

    def __init__(self, channel="local", poison=False, **changed):
        self.memory = [ctypes.create_string_buffer(
            b"\xee" * BLOCKS * BLOCK_BYTES if poison else os.urandom(BLOCKS * BLOCK_BYTES),
            BLOCKS * BLOCK_BYTES) for _ in range(LAYERS)]
        config = baton.NodeConfig()
        config.channel = channel
        config.fingerprint = fingerprint()
        config.chunk_tokens = CHUNK_TOKENS
        config.retained_bytes = 8 << 20
        config.transit_bytes = config.window_bytes = 1 << 20
        config.set_memory([ctypes.addressof(each) for each in self.memory], BLOCKS, layout())
        for name, value in changed.items():
            setattr(config, name, value)
        self.node = baton.Node(config)

    def block(self, layer, block):
        return self.memory[layer].raw[block * BLOCK_BYTES:(block + 1) * BLOCK_BYTES]


def common(tokens=100, **changed):
    return {**dict(handoff=str(uuid.uuid4()), attempt=1, budget_s=DEADLINE_S,
                   tokens=list(range(tokens)), salt="", adapter="", tag=1), **changed}


def wait_for(condition, node):
    """Looks again after each notice; false when the time has passed."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            return False
        node.wait_notice(0.05)
        node.take_notices()
    return True
