"""BatonConnector: vLLM's hooks, each passed on to the scheduler's or the worker's side.

vLLM makes one for the scheduler and one for each worker. They tell each other what the other needs
by the metadata that vLLM carries between them in each step (orders.py).
"""

import atexit

import vllm
from vllm.config import get_layers_from_vllm_config
from vllm.distributed import get_tensor_model_parallel_rank
from vllm.distributed.kv_transfer.kv_connector.v1 import base
from vllm.model_executor.layers.attention import Attention
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.metrics.cache_hit_source import CacheHitSource

from baton.vllm import config, fingerprint, layout
from baton.vllm.guard import logger
from baton.vllm.interface import RUN_WITH
from baton.vllm.orders import NodeAddress, Orders
from baton.vllm.scheduler_side import SchedulerSide
from baton.vllm.stats import BatonPromMetrics, BatonStats
from baton.vllm.worker_side import WorkerSide


def check_options(vllm_config):
    """The options, ValueError naming what is wrong with one or is not done yet."""
    parallel = vllm_config.parallel_config
    for name in ("data_parallel_size", "pipeline_parallel_size", "decode_context_parallel_size",
                 "prefill_context_parallel_size"):
        if getattr(parallel, name, 1) != 1:
            raise ValueError(f"baton: {name} is {getattr(parallel, name)}: only 1 has been run")
    return config.parse(vllm_config.kv_transfer_config.kv_connector_extra_config,
                        parallel.tensor_parallel_size)


def check_groups(kv_cache_config):
    """ValueError naming what this connector does not do yet."""
    groups = kv_cache_config.kv_cache_groups
    if len(groups) != 1 or type(groups[0].kv_cache_spec) is not FullAttentionSpec:
        kinds = ", ".join(type(group.kv_cache_spec).__name__ for group in groups)
        raise ValueError(f"baton: the model's KV cache has the groups [{kinds}]: only one group of "
                         "full attention has been run")


# Not vLLM's SupportsHMA: without it vLLM keeps layers with a sliding window beside layers of full
# attention in one group of full attention, so that one block table says where all KV is.
class BatonConnector(base.KVConnectorBase_V1):
    _cache_hit_source = CacheHitSource.P2P

    def __init__(self, vllm_config, role, kv_cache_config):
        super().__init__(vllm_config, role, kv_cache_config)
        transfer = vllm_config.kv_transfer_config
        options = check_options(vllm_config)
        check_groups(kv_cache_config)
        if vllm.__version__.split("+")[0] not in RUN_WITH:
            logger.warning("baton: vLLM %s has not been run with this connector: %s has",
                           vllm.__version__, ", ".join(RUN_WITH))
        self._scheduler = self._worker = None
        self._orders = Orders()
        if role == base.KVConnectorRole.SCHEDULER:
            self._scheduler = SchedulerSide(
                options, producer=transfer.is_kv_producer, consumer=transfer.is_kv_consumer,
                recompute=transfer.kv_load_failure_policy == "recompute",
                engine_id=transfer.engine_id,
                ranks=vllm_config.parallel_config.tensor_parallel_size,
                block_tokens=kv_cache_config.kv_cache_groups[0].kv_cache_spec.block_size)
        else:
            self._worker = WorkerSide(options, get_tensor_model_parallel_rank())

    # --- the worker's side

    def register_kv_caches(self, kv_caches):
        spec = self._kv_cache_config.kv_cache_groups[0].kv_cache_spec
        layers = get_layers_from_vllm_config(self._vllm_config, Attention, list(kv_caches))
        packing = {name: layout.packing_of(layer, vllm.__version__, spec)
                   for name, layer in layers.items()}
        detected = layout.detect(kv_caches, packing, block_tokens=spec.block_size,
                                 heads=spec.num_kv_heads, blocks=self._kv_cache_config.num_blocks)
        identity = fingerprint.of(self._worker.options.model, self._vllm_config.model_config,
                                  self._vllm_config.parallel_config, detected.dtype,
                                  detected.packing, self._worker.rank)
        self._worker.open(detected, identity, kv_caches)
        # An engine that is not shut down still leaves the node's thread when Python ends.
        atexit.register(self._worker.close)

    def get_handshake_metadata(self):
        node = self._worker.node
        return NodeAddress(node.advertised, node.http_address or "") if node is not None else None

    def handle_preemptions(self, metadata):
        self._worker.handle_preemptions(metadata)

    def bind_connector_metadata(self, metadata):
        super().bind_connector_metadata(metadata)
        self._orders = metadata
        self._worker.begin_step(metadata)

    def start_load_kv(self, forward_context, **kwargs):
        self._worker.accept_loads(self._orders)

    def wait_for_layer_load(self, layer_name):
        return  # all loads are asynchronous

    def save_kv_layer(self, layer_name, kv_layer, attn_metadata, **kwargs):
        self._worker.layer_ready(layer_name)

    def wait_for_save(self):
        self._worker.end_step()

    def get_transfer_results(self, finished_req_ids):
        sent, received = self._worker.take_results()
        return base.KVConnectorTransferResults(finished_sending=sent, finished_recving=received)

    def get_finished(self, finished_req_ids):
        results = self.get_transfer_results(finished_req_ids)
        return results.finished_sending, results.finished_recving

    def get_block_ids_with_load_errors(self):
        return self._worker.take_bad_blocks()

    def get_kv_connector_stats(self):
        return (self._worker or self._scheduler).take_stats()

    def build_connector_worker_meta(self):
        return self._worker.take_news()

    def shutdown(self):
        if self._worker is not None:
            atexit.unregister(self._worker.close)
            self._worker.close()

    # --- the scheduler's side

    def set_xfer_handshake_metadata(self, metadata):
        # Inside a MultiConnector this may be what another connector says.
        self._scheduler.addresses = [metadata[rank].node for rank in sorted(metadata)
                                     if isinstance(metadata[rank], NodeAddress)]

    def on_new_request(self, request):
        self._scheduler.on_new_request(request)

    def get_num_new_matched_tokens(self, request, num_computed_tokens):
        return self._scheduler.get_num_new_matched_tokens(request, num_computed_tokens)

    def get_external_cache_hit_sources(self, request, num_external_tokens):
        if num_external_tokens and self._scheduler.hit_is_own(request.request_id):
            return {CacheHitSource.HOST: num_external_tokens}
        return super().get_external_cache_hit_sources(request, num_external_tokens)

    def update_state_after_alloc(self, request, blocks, num_external_tokens):
        self._scheduler.update_state_after_alloc(request, blocks, num_external_tokens)

    def build_connector_meta(self, scheduler_output):
        return self._scheduler.build_connector_meta(scheduler_output)

    def update_connector_output(self, connector_output):
        self._scheduler.update_connector_output(connector_output)

    def request_finished(self, request, block_ids):
        return self._scheduler.request_finished(request, (block_ids,))

    def reset_cache(self):
        return self._scheduler.reset_cache()

    def has_pending_push_work(self):
        return self._scheduler.has_orders

    @classmethod
    def build_kv_connector_stats(cls, data=None):
        return BatonStats(data)

    @classmethod
    def build_prom_metrics(cls, vllm_config, metric_types, labelnames, per_engine_labelvalues):
        return BatonPromMetrics(vllm_config, metric_types, labelnames, per_engine_labelvalues)

    # Two hooks that vLLM asks before it has made a connector: the first while it reads its
    # configuration, where it would capture whole graphs; the second before it has memory for KV.

    @classmethod
    def requires_piecewise_for_cudagraph(cls, extra_config):
        config.parse(extra_config)
        # Replay of a whole graph skips save_kv_layer.
        return True

    @classmethod
    def get_required_kvcache_layout(cls, vllm_config):
        check_options(vllm_config)
        return None  # any
