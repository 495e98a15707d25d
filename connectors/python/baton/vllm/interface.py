"""What the connector needs of vLLM's connector interface. Imported before anything of it is used.
"""

import importlib
import inspect

import vllm

# Those that the tests were run with.
RUN_WITH = ("0.32.0",)

V1 = "vllm.distributed.kv_transfer.kv_connector.v1"
NAMES = {
    f"{V1}.base": ("KVConnectorBase_V1", "KVConnectorHandshakeMetadata", "KVConnectorMetadata",
                   "KVConnectorRole", "KVConnectorTransferResults", "KVConnectorWorkerMetadata"),
    f"{V1}.metrics": ("KVConnectorPromMetrics", "KVConnectorStats"),
    "vllm.distributed.kv_transfer.kv_connector.factory": ("KVConnectorFactory",),
    "vllm.config": ("get_layers_from_vllm_config",),
    "vllm.distributed": ("get_tensor_model_parallel_rank",),
    "vllm.model_executor.layers.attention": ("Attention",),
    "vllm.v1.kv_cache_interface": ("FullAttentionSpec",),
    "vllm.v1.metrics.cache_hit_source": ("CacheHitSource",),
    "vllm.v1.metrics.utils": ("create_metric_per_engine",),
}
HOOKS = {
    "register_kv_caches", "get_handshake_metadata", "set_xfer_handshake_metadata",
    "handle_preemptions", "bind_connector_metadata", "start_load_kv", "wait_for_layer_load",
    "save_kv_layer", "wait_for_save", "get_transfer_results", "get_block_ids_with_load_errors",
    "build_connector_worker_meta", "on_new_request", "get_num_new_matched_tokens",
    "update_state_after_alloc", "build_connector_meta", "update_connector_output", "shutdown",
    "request_finished", "get_external_cache_hit_sources", "reset_cache", "has_pending_push_work",
}


def lacking(find=importlib.import_module):
    """The names that this vLLM does not have."""
    missing, connector = [], object
    for path, names in NAMES.items():
        try:
            module = find(path)
        except ImportError:
            missing.append(path)
            continue
        missing += [f"{path}.{name}" for name in names if not hasattr(module, name)]
        connector = getattr(module, "KVConnectorBase_V1", connector)
    return missing + sorted(HOOKS - set(dict(inspect.getmembers(connector))))


def check(find=importlib.import_module):
    """ImportError that says what is missing."""
    missing = lacking(find)
    if missing:
        raise ImportError(f"baton.vllm needs of vLLM what vLLM {vllm.__version__} does not have: "
                          f"{', '.join(missing)} (run with {', '.join(RUN_WITH)})")


check()
