"""Sends prompts to an engine or a router as any client would, and times the answers."""

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from processes import ProgramEnded

REQUEST_LIMIT_S = 120


@dataclass
class Request:
    name: str
    path: str
    body: dict
    show: bool = False  # print the answer while it comes


@dataclass
class Answer:
    tokens: list = field(default_factory=list)
    text: str = ""
    ttft_s: float = 0.0
    itl_s: float = 0.0
    usage: dict = field(default_factory=dict)
    handoff: dict = field(default_factory=dict)


def send(address, model, request, show):
    """Sends one request, streamed, and reads it to its end."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=REQUEST_LIMIT_S)
    answer, times = Answer(), []
    body = {"model": model, "temperature": 0, "stream": True, "return_token_ids": True,
            "stream_options": {"include_usage": True}, **request.body}
    try:
        sent = time.monotonic()
        connection.request("POST", request.path, json.dumps(body),
                           {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise ProgramEnded(f"{request.name}: HTTP {response.status}: {response.read()!r}")
        for line in response:
            if not line.startswith(b"data: ") or line.strip() == b"data: [DONE]":
                continue
            event = json.loads(line[len(b"data: "):])
            if "error" in event:
                raise ProgramEnded(f"{request.name}: {event['error']}")
            answer.usage = event.get("usage") or answer.usage
            answer.handoff = (event.get("kv_transfer_params") or {}).get("baton") or answer.handoff
            for choice in event.get("choices", []):
                text = choice.get("text") or choice.get("delta", {}).get("content") or ""
                tokens = choice.get("token_ids") or []
                answer.text += text
                answer.tokens += tokens
                times += [time.monotonic()] * len(tokens)
                if show:
                    print(text, end="", flush=True)
    finally:
        connection.close()
    if times:
        answer.ttft_s = times[0] - sent
        answer.itl_s = (times[-1] - times[0]) / max(1, len(times) - 1)
    return answer


def send_all(address, model, rounds, quiet):
    """Sends every round; {request name: Answer}."""
    answers = {}
    for batch in rounds:
        show = not quiet and any(request.show for request in batch)
        if show:
            print(f'\n{batch[0].body["messages"][0]["content"]}\n> ', end="", flush=True)
        pool = ThreadPoolExecutor(max_workers=len(batch))
        try:
            sent = [(each, pool.submit(send, address, model, each, show)) for each in batch]
            answers.update({request.name: future.result() for request, future in sent})
        finally:
            pool.shutdown(wait=False)  # after Ctrl-C they end when the programs do
        if show:
            print("\n")
        elif not quiet:
            for request in batch:
                text = " ".join(answers[request.name].text.split())
                print(f"  {request.name:13} {text[:80]}", flush=True)
    return answers


def model_name(address):
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=REQUEST_LIMIT_S)
    try:
        connection.request("GET", "/v1/models")
        return json.loads(connection.getresponse().read())["data"][0]["id"]
    finally:
        connection.close()
