"""The options in vLLM's kv_connector_extra_config: each with its default, unit and meaning. Nothing
else is read (but BATON_TOKEN or BATON_TOKEN_FILE, and BATON_LOG_LEVEL, as by every program).
"""

import dataclasses
import difflib
import json

from baton.vllm import address


def option(default, meaning):
    return dataclasses.field(default=default, metadata={"meaning": meaning})


@dataclasses.dataclass(frozen=True)
class Options:
    node: str = option("127.0.0.1:0", "host:port of the control connection; port 0: any free. Of "
                                      "these three addresses rank r of several has port + r")
    node_http: str = option("", "host:port of the node's HTTP (/metrics, /debug/handoffs, failures "
                                "told by the router); empty: none")
    advertise: str = option("", "host or host:port that other nodes dial; empty: as bound")
    channel: str = option("auto", "how bytes move: auto, local, tcp or ucx")
    mode: str = option("retained", "retained: chunks are gathered into the host tier and serve "
                                   "retries and the two-step flow; transient: let go once received")
    model: str = option("", "name of the weights, equal on both ends; empty: a hash of the files' "
                            "names, sizes and samples, which weights that differ in a few places "
                            "only may share")
    chunk_tokens: int = option(0, "tokens of a chunk, a multiple of the block size, equal on both "
                                  "ends; 0: the smallest multiple from 256 on")
    host_tier_mib: int = option(256, "MiB of host memory for retained chunks")
    tier_policy: str = option("age-per-use", "which of them leave first: age-per-use, lru, s3fifo")
    nvme: str = option("", "PATH:SIZE of a file or block device that keeps chunks below the host "
                           "tier, also over a restart; several with commas between them. Rank r "
                           "of several has its own: PATH.r")
    s3: str = option("", "s3://BUCKET[/PREFIX][?endpoint=URL&...]: a bucket that keeps chunks for "
                         "many nodes; credentials as Amazon's tools read them")
    store: str = option("", "host:port of a `baton store` that is given every whole chunk of the host "
                            "tier and asked for what this node has not; empty: none")
    peers: str = option("", "host:port of other nodes that are asked too, with commas between them")
    load_ms: int = option(5_000, "ms that loading from a store or peer may take; then it is computed")
    tenant_quota_mib: int = option(0, "MiB of it that the requests of one cache salt may have; 0: "
                                      "all")
    offload: bool = option(True, "kv_both: keep the whole chunks of every prompt in the host tier, "
                                 "and load them back when vLLM's own prefix cache has not got them")
    offload_tails: bool = option(False, "with offload: keep the last, partial chunk of a prompt "
                                        "too. It serves that very prompt alone, and takes a "
                                        "chunk's memory")
    transit_mib: int = option(32, "MiB of host memory for transient sends")
    window_mib: int = option(64, "MiB that may be on their way in one handoff, at least a segment")
    huge_pages: bool = option(False, "try huge pages for this memory")
    retain_received: bool = option(False, "keep received chunks in the host tier (one more copy)")
    max_handoffs: int = option(4096, "live handoffs; more are refused")
    budget_ms: int = option(30_000, "ms a handoff may take where the request does not say")
    lease_ms: int = option(60_000, "ms that chunks prefilled for nobody yet wait for their decoder")
    first_contact_ms: int = option(10_000, "ms a decoder waits to hear of its prefiller; longer "
                                           "than a prefiller's longest step")
    accept_ms: int = option(10_000, "ms from an offer until the engine has given blocks; longer "
                                    "than a decoder's longest step")
    record_ms: int = option(30_000, "ms that a prefiller's offer waits for the decoder's request")
    progress_ms: int = option(5_000, "ms without a verified segment after which a handoff ends")
    heartbeat_ms: int = option(200, "ms between heartbeats; four missed end a pair's handoffs")
    tls_cert: str = option("", "file of this node's certificate, for TLS between nodes")
    tls_key: str = option("", "file of its key")
    tls_ca: str = option("", "file of the authority whose certificates are let in")
    insecure: bool = option(False, "listen beyond loopback without token and TLS")


FIELDS = {field.name: field for field in dataclasses.fields(Options)}
CHOICES = {"channel": ("auto", "local", "tcp", "ucx"), "mode": ("retained", "transient"),
           "tier_policy": ("age-per-use", "lru", "s3fifo")}
MAY_BE_ZERO = {"chunk_tokens", "tenant_quota_mib"}
ADDRESSES = {"node", "node_http", "advertise"}  # rank r's has another port
ELSEWHERE = {"store", "peers"}


def parse(extra, ranks=1):
    """Options of a dict, for an engine of so many ranks; ValueError names what is wrong with which
    option."""
    values = {}
    for name, value in (extra or {}).items():
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"is '{near[0]}' meant?" if near else f"there are {', '.join(FIELDS)}"
            raise ValueError(f"kv_connector_extra_config has no option '{name}': {hint}")
        kind = type(FIELDS[name].default)
        if type(value) is not kind:
            raise ValueError(f"kv_connector_extra_config: {name} is {value!r}: expected "
                             f"{kind.__name__}")
        if name in CHOICES and value not in CHOICES[name]:
            raise ValueError(f"kv_connector_extra_config: {name} is {value!r}: expected one of "
                             f"{', '.join(CHOICES[name])}")
        if kind is int and (value < 0 or (value == 0 and name not in MAY_BE_ZERO)):
            raise ValueError(f"kv_connector_extra_config: {name} is {value}: expected more than 0")
        if name in ADDRESSES and value and (why := address.wrong(value, ranks)):
            if name != "advertise" or not address.is_host(value):
                raise ValueError(f"kv_connector_extra_config: {name} is {value!r}: {why}")
        if name in ELSEWHERE and value:
            for each in value.split(","):
                if why := address.wrong(each, 1):
                    raise ValueError(f"kv_connector_extra_config: {name} is {value!r}: {why}")
        values[name] = value
    return Options(**values)


def chunk_tokens(options, block_tokens):
    return options.chunk_tokens or -(-256 // block_tokens) * block_tokens


def table():
    """The options as a table for a README."""
    rows = [f"| `{name}` | `{json.dumps(field.default)}` | {field.metadata['meaning']} |\n"
            for name, field in FIELDS.items()]
    return "| option | default | meaning |\n|---|---|---|\n" + "".join(rows)
