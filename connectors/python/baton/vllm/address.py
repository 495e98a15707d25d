"""Addresses of nodes, "host:port" or "[v6]:port", as everything of Baton writes them."""

import re

_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.%\w]+\]|[^\[\]:\s]+):(?P<port>\d{1,5})")
_HOST = re.compile(r"\[[0-9a-fA-F:.%\w]+\]|[^\[\]:\s]+")
MAX_PORT = 65535


def wrong(text, ranks=1):
    """What is wrong with an address, whose port is that of the first of so many ranks; empty where
    it is right."""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return "expected host:port, or [v6 address]:port"
    port = int(found["port"])
    if port and port + ranks - 1 > MAX_PORT or port > MAX_PORT:
        return f"expected a port from 0 to {MAX_PORT - ranks + 1}"
    return ""


def is_host(text):
    return _HOST.fullmatch(text) is not None


def of_rank_path(device, rank):
    """PATH:SIZE, as this rank has it: a device is one process's."""
    path, colon, size = device.rpartition(":")
    return f"{path}.{rank}{colon}{size}" if colon and rank else device


def of_rank(address, rank):
    """An address of the options, as this rank has it."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) == 0 or rank == 0:
        return address
    return f"{host}:{int(port) + rank}"
