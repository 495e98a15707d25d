"""kv_transfer_params: what a request says of its handoff, and what an answer says.

{"baton": {"handoff": "<uuid>", "attempt": 1, "role": "prefill"|"decode", "flow": "push"|"fetch",
           "peer": ["host:port", ...], "budget_ms": 30000, "salt": "..."}}

is what baton-router sends. The shape of vLLM's NIXL connector is taken too: a prefiller asked with
do_remote_decode holds the chunks, and answers with parameters in both shapes that its decoder is
given as they are.
"""

import dataclasses
import uuid

from baton.vllm import address


class ParamsError(ValueError):
    """Says which parameter is wrong, and what was expected."""


@dataclasses.dataclass(frozen=True)
class Transfer:
    role: str  # "prefill" or "decode"
    handoff: str
    attempt: int = 1
    flow: str = "push"
    peer: tuple = ()
    budget_s: float = 0.0  # 0: the option's
    salt: str = ""

    @property
    def two_step(self):
        return self.role == "prefill" and not self.peer


def _read(table, name, kind, default, where="kv_transfer_params.baton"):
    value = table.get(name)
    if value is None:
        return default
    if type(value) is not kind:
        raise ParamsError(f"{where}.{name} is {value!r}: expected {kind.__name__}")
    return value


def _handoff_id(text):
    """A request's own id as a handoff's: itself where it is a UUID, else one made of it."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, text))


def _from_baton(table):
    if not isinstance(table, dict):
        raise ParamsError(f"kv_transfer_params.baton is {table!r}: expected an object")
    role = _read(table, "role", str, "")
    if role not in ("prefill", "decode"):
        raise ParamsError(f"kv_transfer_params.baton.role is {role!r}: expected 'prefill' or "
                          "'decode'")
    handoff = _read(table, "handoff", str, "")
    if not handoff and role == "prefill":
        handoff = str(uuid.uuid4())
    try:
        handoff = str(uuid.UUID(handoff))
    except ValueError:
        raise ParamsError(f"kv_transfer_params.baton.handoff is {handoff!r}: expected a UUID")
    flow = _read(table, "flow", str, "push")
    if flow not in ("push", "fetch"):
        raise ParamsError(f"kv_transfer_params.baton.flow is {flow!r}: expected 'push' or 'fetch'")
    peer = _read(table, "peer", list, [])
    if not all(isinstance(each, str) for each in peer):
        raise ParamsError(f"kv_transfer_params.baton.peer is {peer!r}: expected texts")
    for each in peer:
        if why := address.wrong(each):
            raise ParamsError(f"kv_transfer_params.baton.peer has {each!r}: {why}")
    budget_ms = _read(table, "budget_ms", int, 0)
    attempt = _read(table, "attempt", int, 1)
    if budget_ms < 0 or not 1 <= attempt < 1 << 32:
        raise ParamsError(f"kv_transfer_params.baton has budget_ms {budget_ms} and attempt "
                          f"{attempt}: expected at least 0, and 1 to {(1 << 32) - 1}")
    return Transfer(role, handoff, attempt, flow, tuple(peer), budget_ms / 1000,
                    _read(table, "salt", str, ""))


def parse(params):
    """The Transfer that a request asks for, or None; ParamsError."""
    if not params:
        return None
    if not isinstance(params, dict):
        raise ParamsError(f"kv_transfer_params is {params!r}: expected an object")
    if params.get("baton") is not None:
        return _from_baton(params["baton"])
    if params.get("do_remote_prefill"):
        host, port, request = (params.get(name) for name in
                               ("remote_host", "remote_port", "remote_request_id"))
        if host is None or port is None or not isinstance(request, str):
            raise ParamsError("kv_transfer_params has do_remote_prefill with remote_host "
                              f"{host!r}, remote_port {port!r} and remote_request_id {request!r}: "
                              "expected all of them")
        peer = _join(host, port)
        if why := address.wrong(peer):
            raise ParamsError("kv_transfer_params has do_remote_prefill with remote_host "
                              f"{host!r}, remote_port {port!r}: {why}")
        return Transfer("decode", _handoff_id(request), flow="fetch", peer=(peer,))
    if params.get("do_remote_decode"):
        return Transfer("prefill", str(uuid.uuid4()))
    return None


def refused(why):
    """What an answer says where the parameters could not be taken."""
    return {"baton": {"end": "refused", "why": why}}


def _join(host, port):
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def _split(node):
    host, _, port = node.rpartition(":")
    return host.strip("[]"), int(port)


def for_decoder(transfer, engine_id, addresses, tokens):
    """What a prefiller that holds chunks answers: to be given to the decoder as it is. `addresses`:
    of each rank's node; NIXL's shape has room for the first alone."""
    host, port = _split(addresses[0])
    return {
        "baton": {"handoff": transfer.handoff, "attempt": transfer.attempt, "role": "decode",
                  "flow": "fetch", "peer": list(addresses), "salt": transfer.salt},
        "do_remote_prefill": True,
        "do_remote_decode": False,
        "remote_engine_id": engine_id,
        "remote_request_id": transfer.handoff,
        "remote_host": host,
        "remote_port": port,
        "remote_num_tokens": tokens,
        "tp_size": len(addresses),
    }
