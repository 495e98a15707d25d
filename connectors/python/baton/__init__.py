"""Baton for Python: nodes and sessions, as connectors/*.h describe them.

`python -m baton.doctor` says what this machine has. `baton.vllm` is the connector for vLLM.
"""

from baton._native import (
    DecodeSession,
    Error,
    Fingerprint,
    KvLayout,
    Node,
    NodeConfig,
    PrefillSession,
    capabilities,
)

__version__ = capabilities()["version"]

__all__ = [
    "DecodeSession",
    "Error",
    "Fingerprint",
    "KvLayout",
    "Node",
    "NodeConfig",
    "PrefillSession",
    "capabilities",
]
