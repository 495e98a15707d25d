"""Runs a build of ninja's and says now and then how far it is."""

import os
import re
import select
import subprocess
import time

from processes import Helper

EVERY_S = 10
STATUS = re.compile(rb"\[(\d+)/(\d+)\] ")  # NINJA_STATUS below


def print_line(line):
    print(line, flush=True)


def run_build(command, say=print_line, every_s=EVERY_S, **keywords):
    """Runs it to its end; its exit code. What it prints goes to `say` line by line, all but ninja's
    line for each step: of these there is one of ours every `every_s`, also while a step takes
    long."""
    started = said = time.monotonic()
    steps = ""
    environment = {**os.environ, "NINJA_STATUS": "[%f/%t] "}
    with Helper(command, stdout=subprocess.PIPE, env=environment, **keywords) as helper:
        pipe, rest, ended = helper.process.stdout, b"", False
        while not ended:
            wait_s = max(0, said + every_s - time.monotonic())
            if select.select([pipe], [], [], wait_s)[0]:
                piece = os.read(pipe.fileno(), 1 << 16)
                ended = not piece
                *lines, rest = (rest + piece).split(b"\n")
                for line in [*lines, rest] if ended and rest else lines:
                    status = STATUS.match(line)
                    if status is None:
                        say(line.decode(errors="replace"))
                    else:
                        steps = f": {int(status[1])} of {int(status[2])}"
            if not ended and time.monotonic() >= said + every_s:
                said = time.monotonic()
                say(f"== building{steps} ({said - started:.0f} s)")
        return helper.process.wait()
