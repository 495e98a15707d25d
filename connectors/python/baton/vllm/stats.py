"""What vLLM logs and exports of handoffs (its KV connector stats): counts and times since the last
look. The node's own metrics, which say more, are at its HTTP (the option node_http).
"""

import statistics

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (
    KVConnectorPromMetrics,
    KVConnectorStats,
)
from vllm.v1.metrics.utils import create_metric_per_engine

# Each becomes vllm:baton_<name>. Of several ranks each counts a request once.
COUNTS = {
    "loads": "Requests whose prompt was loaded from a prefiller.",
    "reloads": "Requests whose prompt was loaded, in part, from this instance's own host tier.",
    "loads_failed": "Requests whose prompt was not loaded, or in part.",
    "bytes_received": "Bytes of KV received and verified.",
    "sends": "Requests whose blocks were held for a handoff and are free again.",
    "errors": "Exceptions that a hook of the connector caught.",
}
SECONDS = "load_seconds"
BUCKETS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100]


class BatonStats(KVConnectorStats):
    """data: a number for each of COUNTS, and a list of the loads' seconds, from the request's
    arrival on."""

    def __init__(self, data=None):
        super().__init__(data or {})
        if not self.data:
            self.reset()

    def reset(self):
        self.data = {**dict.fromkeys(COUNTS, 0), SECONDS: []}

    def aggregate(self, other):
        for name in COUNTS:
            self.data[name] += other.data[name]
        self.data[SECONDS] += other.data[SECONDS]
        return self

    def is_empty(self):
        return not any(self.data.values())

    def reduce(self):
        seconds = self.data[SECONDS]
        return {
            "loads": self.data["loads"],
            "reloads": self.data["reloads"],
            "loads failed": self.data["loads_failed"],
            "MB received": round(self.data["bytes_received"] / 1e6, 3),
            "median load (ms)": round(statistics.median(seconds) * 1e3, 3) if seconds else 0,
            "sends": self.data["sends"],
            "errors": self.data["errors"],
        }


class BatonPromMetrics(KVConnectorPromMetrics):
    def __init__(self, vllm_config, metric_types, labelnames, per_engine_labelvalues):
        super().__init__(vllm_config, metric_types, labelnames, per_engine_labelvalues)
        self._counters = {
            name: create_metric_per_engine(
                self._counter_cls(name=f"vllm:baton_{name}", documentation=meaning,
                                  labelnames=labelnames), per_engine_labelvalues)
            for name, meaning in COUNTS.items()}
        self._seconds = create_metric_per_engine(
            self._histogram_cls(
                name=f"vllm:baton_{SECONDS}",
                documentation="From a request's arrival until its prompt was loaded, in seconds.",
                buckets=BUCKETS, labelnames=labelnames), per_engine_labelvalues)

    def observe(self, transfer_stats_data, engine_idx=0):
        for name, counters in self._counters.items():
            counters[engine_idx].inc(transfer_stats_data[name])
        for seconds in transfer_stats_data[SECONDS]:
            self._seconds[engine_idx].observe(seconds)
