"""A prefiller without an engine, which fails as it is told: faults that a real one has at moments
that cannot be chosen. Its KV is random: any bytes, no numbers among them, or numbers ("numbers":
true).

    prefiller_process.py {"fingerprint": …, "layout": …, "layers": …, "chunk_tokens": …,
                          "channel": …, "peer": "host:port", "handoff": …, "tokens": […], "salt": …,
                          "after": what, "layers_done": n, "then": how}

after: "made" (the request is queued), "begun" (offered), "accepted", "sent" (all that is computed
was acknowledged). then: "die" (SIGKILL to itself), "stop" (SIGSTOP), "abort", or "complete". It
prints "ready" when its session is there and the end of its handoff when that has one.
"""

import array
import ctypes
import json
import os
import random
import signal
import sys
import time

import baton

DEADLINE_S = 60.0


class Prefiller:
    def __init__(self, what):
        layout = baton.KvLayout()
        for name, value in what["layout"].items():
            setattr(layout, name, value)
        fingerprint = baton.Fingerprint()
        for name, value in what["fingerprint"].items():
            setattr(fingerprint, name, value)
        self.layers = what["layers"]
        self.block_bytes = layout.opaque_block_bytes
        self.tokens = len(what["tokens"])
        self.blocks = -(-self.tokens // layout.block_tokens)
        # One layer's memory stands for all of them.
        size = self.blocks * layout.block_stride
        self.memory = ctypes.create_string_buffer(
            array.array("f", (random.uniform(-1, 1) for _ in range(size // 4))).tobytes()
            if what.get("numbers") else os.urandom(size), size)
        config = baton.NodeConfig()
        config.channel = what["channel"]
        config.fingerprint = fingerprint
        config.chunk_tokens = what["chunk_tokens"]
        config.set_memory([ctypes.addressof(self.memory)] * self.layers, self.blocks, layout)
        self.node = baton.Node(config)
        self.session = baton.PrefillSession(
            node=self.node, handoff=what["handoff"], attempt=1, peer=[what["peer"]],
            budget_s=DEADLINE_S, tokens=what["tokens"], salt=what["salt"], adapter="", tag=1)

    def live(self):
        """What its node says of the handoff; None when it has ended."""
        handoffs = json.loads(self.node.debug())["handoffs"]
        return handoffs[0] if handoffs else None

    def wait(self, done):
        end = time.monotonic() + DEADLINE_S
        while not done(self.live()):
            assert time.monotonic() < end, self.live()
            self.node.wait_notice(0.01)
            self.node.take_notices()

    def come_to(self, after, layers_done):
        if after == "made":
            return
        self.session.begin(list(range(self.blocks)), 0)
        for layer in range(layers_done):
            self.session.layer_ready(layer, self.tokens)
        if after in ("accepted", "sent"):
            self.wait(lambda live: live is None or live["state"] == "sending")
        if after == "sent":
            sent = layers_done * self.blocks * self.block_bytes
            self.wait(lambda live: live is None or (live["published_bytes"] >= sent and
                                                    live["unacknowledged_bytes"] == 0))


def main():
    what = json.loads(sys.argv[1])
    prefiller = Prefiller(what)
    print("ready", flush=True)
    prefiller.come_to(what["after"], what["layers_done"])
    if what["then"] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what["then"] == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if what["then"] == "complete":
        prefiller.session.finish()
    else:
        prefiller.session.abort("as it was told")
    prefiller.wait(lambda live: live is None)
    print(prefiller.session.report()["end"], flush=True)
    del prefiller.session
    prefiller.node.close()


if __name__ == "__main__":
    main()
