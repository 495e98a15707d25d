"""Speaking HTTP to Baton's programs: answers, streams, metrics, raw bytes."""

import http.client
import json
import re
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor


def split_address(address):
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class Answer:
    """One HTTP answer. Of a stream: what its events add up to."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body  # bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def choices(self):
        assert self.status == 200, self
        return self.json["choices"]

    @property
    def tokens(self):
        """Token ids of the first choice (asked for with return_token_ids)."""
        return self.choices[0]["token_ids"]

    @property
    def text(self):
        choice = self.choices[0]
        return choice["message"]["content"] if "message" in choice else choice["text"]

    @property
    def usage(self):
        return self.json["usage"]

    @property
    def handoff(self):
        """What the decoder says about the handoff: bytes, transport, prompt_tokens_computed, …"""
        return self.json["kv_transfer_params"]["baton"]

    @property
    def error(self):
        """The error object of OpenAI's shape; asserts that it has that shape."""
        assert self.status >= 400, self
        error = self.json["error"]
        assert isinstance(error["message"], str) and error["message"], self
        assert isinstance(error["type"], str) and error["type"], self
        assert isinstance(error["code"], str) and error["code"], self
        assert "param" in error, self
        return error

    def __repr__(self):
        return f"<answer {self.status}: {self.body[:2000]!r}>"


class Stream:
    """A streaming answer: iterate over it for the events (parsed JSON), in time; [DONE] ends it.
    close() goes away in the middle, as a client does who loses interest."""

    def __init__(self, connection, response, sent_at):
        self._connection = connection
        self._socket = connection.sock
        self._response = response
        self._sent_at = sent_at
        self.status = response.status
        self.headers = dict(response.getheaders())
        self.times = []  # of each event, seconds after the request was sent
        self.done = False

    def __iter__(self):
        return self

    def __next__(self):
        while True:
            line = self._response.readline()
            if not line:
                raise StopIteration
            line = line.rstrip(b"\r\n")
            if not line.startswith(b"data:"):
                assert line == b"" or line.startswith(b":"), f"not an event: {line!r}"
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                self.done = True
                assert self._response.read().strip() == b"", "bytes after [DONE]"
                raise StopIteration
            self.times.append(time.monotonic() - self._sent_at)
            return json.loads(data)

    def read(self):
        """The whole answer, put together as if it had not been streamed."""
        if self.status != 200:
            return Answer(self.status, self.headers, self._response.read())
        text, tokens, whole, finish = "", [], {}, None
        for event in self:
            if "error" in event:
                return Answer(500, self.headers, json.dumps(event).encode())
            for choice in event.get("choices", []):
                text += choice.get("text") or choice.get("delta", {}).get("content") or ""
                tokens += choice.get("token_ids") or []
                finish = choice.get("finish_reason") or finish
            whole.update({key: value for key, value in event.items() if value is not None})
        assert self.done, "the stream ended without [DONE]"
        whole["choices"] = [{"text": text, "token_ids": tokens, "finish_reason": finish}]
        return Answer(200, self.headers, json.dumps(whole).encode())

    def close(self, reset=False):
        """Closes the connection now; `reset`: with a TCP reset instead of an orderly end."""
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self._socket.shutdown(socket.SHUT_RDWR)
        self._response.close()
        self._connection.close()
        self._socket.close()


class Api:
    """The OpenAI API (and whatever else) at an address. Thread-safe: a connection a request."""

    def __init__(self, address, timeout_s, token=None):
        self.address = address
        self.timeout_s = timeout_s
        self.token = token  # shown with every request
        self._model = None

    @property
    def model(self):
        """The name under which the model is served."""
        if self._model is None:
            self._model = self.get("/v1/models").json["data"][0]["id"]
        return self._model

    def completion(self, prompt, max_tokens=24, **fields):
        """The body of a /v1/completions request: greedy, with token ids in the answer, going on
        past an end-of-text token."""
        return {"model": self.model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0,
                "return_token_ids": True, "ignore_eos": True, **fields}

    def _send(self, method, path, body, headers):
        host, port = split_address(self.address)
        connection = http.client.HTTPConnection(host, port, timeout=self.timeout_s)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        sent_at = time.monotonic()
        headers = dict(headers or {"Content-Type": "application/json"})
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        connection.request(method, path, body, headers)
        return connection, connection.getresponse(), sent_at

    def request(self, method, path, body=None, headers=None):
        connection, response, _ = self._send(method, path, body, headers)
        try:
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, body, headers=None):
        return self.request("POST", path, body, headers)

    def stream(self, path, body):
        body = {"stream_options": {"include_usage": True}, **body, "stream": True}
        return Stream(*self._send("POST", path, body, None))

    def complete(self, prompt, max_tokens=24, **fields):
        return self.post("/v1/completions", self.completion(prompt, max_tokens, **fields))

    def stream_completion(self, prompt, max_tokens=24, **fields):
        return self.stream("/v1/completions", self.completion(prompt, max_tokens, **fields))

    def chat(self, messages, max_tokens=24, **fields):
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return self.post("/v1/chat/completions", {
            "model": self.model, "messages": messages, "max_tokens": max_tokens,
            "return_token_ids": True, "temperature": 0, **fields})

    def open(self, path, body):
        """Posts and returns the socket without waiting for an answer: closing it is a client who
        goes away. Usable as a context."""
        data = json.dumps(body).encode()
        host, port = split_address(self.address)
        connection = socket.create_connection((host, port), timeout=self.timeout_s)
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: {self.address}\r\n"
                           "Content-Type: application/json\r\n"
                           f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
        return connection

    def raw(self, data, until_closed=True):
        """Sends bytes as they are and returns what comes back until the other side closes."""
        host, port = split_address(self.address)
        with socket.create_connection((host, port), timeout=self.timeout_s) as connection:
            connection.sendall(data)
            if not until_closed:
                return connection.recv(65536)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
            return received

    def metrics(self):
        answer = self.get("/metrics")
        assert answer.status == 200, answer
        return Metrics(answer.body.decode())


class Metrics:
    """Prometheus text, parsed."""

    LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ([^ ]+)(?: \d+)?$")
    LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

    def __init__(self, text):
        self.samples = []  # (name, labels, value)
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            match = self.LINE.match(line)
            assert match, f"not a line of metrics: {line!r}"
            name, labels, value = match.groups()
            self.samples.append((name, dict(self.LABEL.findall(labels or "")), float(value)))

    def value(self, name, **labels):
        """The sum over all samples of that name with (at least) these labels; 0 where the family
        has none of them. A name that is not there at all is a mistake: the programs show their
        families from the start."""
        assert any(sample == name for sample, _, _ in self.samples), f"no metric is called {name}"
        return sum(value for sample, its_labels, value in self.samples
                   if sample == name and labels.items() <= its_labels.items())

    def names(self):
        return {name for name, _, _ in self.samples}


def together(calls):
    """Runs all calls at once, each in a thread; their results in order. Raises the first error."""
    with ThreadPoolExecutor(max_workers=max(1, len(calls))) as pool:
        futures = [pool.submit(call) for call in calls]
        return [future.result() for future in futures]
