"""A prefiller without an engine, as tests hold it."""

import json
import os
import subprocess
import sys
from pathlib import Path


class FakePrefiller:
    """prefiller_process.py: dies, stops, gives up or lies at a chosen moment."""

    def __init__(self, pair, asked, handoff, **what):
        setup = {**pair.decoder.call("kv"), "channel": pair.channel.partition(":")[0],
                 "handoff": handoff, "peer": pair.decoder.call("nodes")[0],
                 "tokens": asked["prompt"],
                 # As the connector has it: the request's own salt after that of the parameters.
                 "salt": f"0:{asked['salt']}", **what}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("prefiller_process.py")),
             json.dumps(setup)], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "BATON_LOG_LEVEL": "warn"})
        assert self.process.stdout.readline() == "ready\n"

    def end(self):
        self.process.kill()
        self.process.communicate()
