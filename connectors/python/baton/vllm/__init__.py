"""The connector for vLLM, out of tree:

vllm serve MODEL --kv-transfer-config '{"kv_connector": "BatonConnector",
    "kv_connector_module_path": "baton.vllm", "kv_role": "kv_producer",
    "kv_connector_extra_config": {"node": "127.0.0.1:9001"}}'

The options of kv_connector_extra_config are in config.py.
"""

from baton.vllm.connector import BatonConnector

__all__ = ["BatonConnector"]
