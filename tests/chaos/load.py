"""Requests without pause, and what may become of one: the right tokens or a clear error, within its
budget."""

import http.client
import random
import threading
import time
from dataclasses import dataclass

from baton import prompt_of, scaled
from client import Answer
from faults import CLEAR_ERRORS

CLIENTS = 3
MAX_TOKENS = 12
BUDGET_S = 3.0
SLACK_S = scaled(0.75)  # beyond the budget, for an answer to arrive on a busy machine


def prompts():
    """Short and long ones, some of which begin like others."""
    lengths = (5, 40, 64, 65, 130, 200, 260, 330, 400)
    whole = [prompt_of(length, seed=1) for length in lengths]
    longer = [prompt[:128] + prompt_of(90, seed=i) for i, prompt in enumerate(whole[4:])]
    return whole + longer


@dataclass
class Outcome:
    number: int           # of the prompt
    how: str              # "json", "stream", "leave"
    began: float          # time.monotonic()
    took: float = 0.0
    end: str = ""         # "ok", "left", an error's code, or "lost": no answer from the router
    status: int = 0
    decoder: str = ""     # its address
    handoff: str = ""     # how the decoder says that it ended
    problem: str = ""     # what must not be


class Load:
    """One round's clients. `expected[i]`: what the engine alone answers to prompts()[i]."""

    def __init__(self, router, expected, name, router_fails, patience_s):
        """`router_fails`: whether the router itself may be gone, so that there is no answer;
        `patience_s`: how long it may stand still."""
        self.router = router
        self.expected = expected
        self.router_fails = router_fails
        self.limit_s = BUDGET_S + SLACK_S + patience_s
        self.outcomes = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(f"{name} {client}",))
                         for client in range(CLIENTS)]

    def start(self):
        for thread in self._threads:
            thread.start()

    def finish(self):
        """No more requests; waits for those under way."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _client(self, name):
        rng = random.Random(name)
        everything = prompts()
        while not self._over.is_set():
            how = rng.choices(("json", "stream", "leave"), (6, 3, 1))[0]
            number, tokens = rng.randrange(len(everything)), rng.randrange(1, MAX_TOKENS + 1)
            outcome = Outcome(number, how, time.monotonic())
            try:
                self._request(outcome, everything[number], tokens)
            except (OSError, http.client.HTTPException) as error:
                outcome.end = "lost"
                if not self.router_fails or isinstance(error, TimeoutError):
                    outcome.problem = f"no answer: {error!r}"
            except Exception as error:
                outcome.problem = f"not an answer: {error!r}"
            outcome.took = time.monotonic() - outcome.began
            if outcome.took > self.limit_s and not outcome.problem:
                outcome.problem = f"took {outcome.took:.2f} s, allowed are {self.limit_s:.2f}"
            self.outcomes.append(outcome)
            if outcome.end not in ("ok", "left"):
                self._over.wait(0.02)  # who is refused does not ask again as fast as it can

    def _request(self, outcome, prompt, tokens):
        right = self.expected[outcome.number][:tokens]
        api = self.router
        if outcome.how == "json":
            return self._judge(outcome, api.complete(prompt, tokens), right)
        stream = api.stream_completion(prompt, tokens)
        if stream.status != 200:
            return self._judge(outcome, stream.read(), right)
        outcome.status, came = 200, []
        outcome.decoder = stream.headers["x-baton-decoder"]
        for event in stream:
            if "error" in event:
                error = event["error"]
                if not error.get("message") or not error.get("type"):
                    outcome.problem = f"an unclear error in a stream: {event}"
                outcome.end = f"cut: {error.get('code')}"
                break
            for choice in event.get("choices", []):
                came += choice.get("token_ids", [])
            if outcome.how == "leave":
                outcome.end = "left"
                break
        stream.close()
        if came != right[:len(came)]:
            outcome.problem = f"other tokens: {came}, not {right}"
        elif outcome.end == "" and not stream.done:
            outcome.end = "lost"
            if not self.router_fails:
                outcome.problem = "the stream ended without [DONE]"
        elif outcome.end == "":
            outcome.end = "ok"
            if came != right:
                outcome.problem = f"too few tokens: {came}, not {right}"

    def _judge(self, outcome, answer: Answer, right):
        outcome.status = answer.status
        outcome.decoder = answer.headers.get("x-baton-decoder", "")
        if answer.status == 200:
            outcome.end = "ok"
            outcome.handoff = (answer.json.get("kv_transfer_params") or {}).get(
                "baton", {}).get("end", "")
            if answer.tokens != right:
                outcome.problem = f"other tokens: {answer.tokens}, not {right}"
            return
        outcome.end = str(answer.error["code"])
        if answer.status not in CLEAR_ERRORS:
            outcome.problem = f"an unclear error: {answer}"
