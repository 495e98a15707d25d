"""Holding a process at a point, and starting engines with faults (build/tests/faulty_engine).

    hold = Hold(tmp_path / "hold")
    cluster = baton.cluster(prefill={"program": "tests/faulty_engine", "hold": hold.at_layer(2)})
    ... a request ...
    hold.wait_held()         # the prefiller stands before it hands layer 2 over
    hold.release()           # that layer of that step, once
    hold.lift()              # from now on nothing is held
"""

import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from baton import scaled, wait_for

CLEAR_ERRORS = (429, 500, 502, 503, 504)


class Hold:
    """A FIFO at which an engine's thread waits, before it hands a layer of a step to its
    session."""

    def __init__(self, path):
        self.path = path
        os.mkfifo(path)
        self._lifted = None

    def at_layer(self, layer):
        """The value of --hold."""
        return f"{layer}:{self.path}"

    def held(self):
        try:
            os.close(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK))
            return True
        except OSError as error:
            assert error.errno == errno.ENXIO, error
            return False

    def wait_held(self, seconds=10):
        wait_for(self.held, scaled(seconds), f"held at {self.path}")

    def release(self):
        self.wait_held()
        with open(self.path, "wb", buffering=0) as fifo:
            fifo.write(b"x")

    def lift(self):
        if self._lifted is None:
            self._lifted = os.open(self.path, os.O_RDWR)
            os.unlink(self.path)
            os.write(self._lifted, b"x" * 256)

    def set_again(self):
        """After lift(): holds whoever comes next."""
        os.close(self._lifted)
        self._lifted = None
        os.mkfifo(self.path)


@contextmanager
def in_background(call):
    """Runs call() in a thread; gives its future and waits for it at the end."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield pool.submit(call)


def receiving(engine):
    """The handoff that this decoder is receiving: between ACCEPT and COMMIT; None if there is
    none."""
    return next((each for each in engine.handoffs()
                 if each["role"] == "receiver" and each["state"] == "receiving"), None)


def wait_receiving(engine, layer=None, seconds=10):
    """Until it receives (and `layer` is verified); that handoff's entry."""
    def entry():
        found = receiving(engine)
        return found if found and (layer is None or layer in found["layers_complete"]) else None
    return wait_for(entry, scaled(seconds), f"{engine.name} receives layer {layer}")


def assert_right_or_clear(answer, expected):
    """The right tokens, or an error that says what happened; never other tokens."""
    if answer.status == 200:
        assert answer.tokens == expected
    else:
        assert answer.status in CLEAR_ERRORS, answer
        assert answer.error["message"], answer


def restart(baton, engine, role, **flags):
    """The same engine at the same addresses."""
    return baton.engine(role, listen=engine.ready["listen"], node=engine.ready["node"],
                        node_http=engine.ready["node_http"], **flags)


def wait_handed_off(cluster, prompt, expected, seconds=15):
    """Until a request is handed off again as if nothing had been: the router and the nodes know
    that everybody is back. Every answer on the way is right or a clear error."""
    deadline = time.monotonic() + scaled(seconds)
    while True:
        answer = cluster.complete(prompt)
        assert_right_or_clear(answer, expected)
        if answer.status == 200 and answer.handoff.get("end") == "committed":
            assert answer.handoff["prompt_tokens_computed"] == 1
            return
        assert time.monotonic() < deadline, f"still not handed off: {answer}"
