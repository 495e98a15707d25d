"""HTTP of servers and nodes."""

import contextlib
import json
import socket
import urllib.request


def free_ports(count):
    """Different ones: all are held until all are known."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0)))
                  for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def free_ports_in_a_row(count):
    """The first of them."""
    while True:
        (first,) = free_ports(1)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first


def get(url, deadline=30):
    with urllib.request.urlopen(url, timeout=deadline) as answer:
        return answer.read().decode()


def post(url, value, deadline=30):
    request = urllib.request.Request(url, json.dumps(value).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=deadline) as answer:
        return answer.read().decode()
