"""The connector for vLLM, out of tree:

vllm serve MODEL --kv-transfer-config '{"kv_connector": "BatonConnector",
    "kv_connector_module_path": "baton.vllm", "kv_role": "kv_producer",
    "kv_connector_extra_config": {"node": "127.0.0.1:9001"}}'

The options of kv_connector_extra_config are in config.py.
"""

import baton.vllm.interface  # first: it says what of vLLM is missing

from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

from baton.vllm.connector import BatonConnector

# Inside a MultiConnector vLLM finds the class by its name alone where it reads the stats of one.
try:
    KVConnectorFactory.register_connector("BatonConnector", __name__, "BatonConnector")
except ValueError:
    pass  # a second import of this module, or a vLLM that has been told of it

__all__ = ["BatonConnector"]
