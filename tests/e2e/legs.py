"""A handoff's two legs sent by hand, as the router sends them."""

import uuid
from concurrent.futures import ThreadPoolExecutor

from baton import wait_for


def prefill_alone(prefiller, prompt, handoff=None):
    """The first half of the two-step flow: prefilled without a peer. Returns what the decoder is to
    be given as it is."""
    params = {"handoff": handoff or str(uuid.uuid4()), "attempt": 1, "role": "prefill",
              "flow": "fetch"}
    answer = prefiller.api.complete(prompt, 1, kv_transfer_params={"baton": params})
    assert answer.status == 200, answer
    return answer.json["kv_transfer_params"]


class Legs:
    """One handoff between two engines. Use as a context: it waits for the legs that it sent."""

    def __init__(self, prefiller, decoder, prompt, handoff=None, attempt=1, flow="push",
                 budget_ms=30_000, **fields):
        self.prefiller = prefiller
        self.decoder = decoder
        self.prompt = prompt
        self.handoff = handoff or str(uuid.uuid4())
        self.attempt = attempt
        self.flow = flow
        self.budget_ms = budget_ms
        self.fields = fields
        self._pool = ThreadPoolExecutor(max_workers=2)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._pool.shutdown()

    def body(self, role):
        api, peer = ((self.prefiller.api, self.decoder) if role == "prefill" else
                     (self.decoder.api, self.prefiller))
        params = {"handoff": self.handoff, "attempt": self.attempt, "role": role,
                  "flow": self.flow, "peer": [peer.ready["node"]], "budget_ms": self.budget_ms}
        max_tokens = {"max_tokens": 1} if role == "prefill" else {}
        return api.completion(self.prompt, **{**self.fields, **max_tokens,
                                              "kv_transfer_params": {"baton": params}})

    def send(self, role):
        """Sends that leg now; a future of its Answer."""
        engine = self.prefiller if role == "prefill" else self.decoder
        return self._pool.submit(engine.api.post, "/v1/completions", self.body(role))

    def open(self, role):
        """Sends that leg and returns its connection, to be closed while no answer is there yet."""
        engine = self.prefiller if role == "prefill" else self.decoder
        return engine.api.open("/v1/completions", {**self.body(role), "stream": True})

    def wait_known(self, engine, seconds=5):
        """Until that engine's node lists the handoff; its entry."""
        def entry():
            return next((each for each in engine.handoffs()
                         if (each["id"], each["attempt"]) == (self.handoff, self.attempt)), None)
        return wait_for(entry, seconds, f"{engine.name} knows handoff {self.handoff}")
