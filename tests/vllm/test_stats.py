from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from vllm.distributed.kv_transfer.kv_connector.v1.multi_connector import (
    MultiConnector,
    MultiKVConnectorStats,
)

from baton.vllm.stats import COUNTS, BatonPromMetrics, BatonStats


def stats(**changed):
    it = BatonStats()
    it.data.update(changed)
    return it


def test_empty_until_something_is_counted():
    assert BatonStats().is_empty() and not stats(errors=1).is_empty()


def test_data_survives_the_way_to_another_process():
    sent = stats(loads=2, bytes_received=10, load_seconds=[0.5, 1.5])
    assert BatonStats(sent.to_dict()).reduce() == sent.reduce()


def test_sums_and_the_median():
    total = stats(loads=1, load_seconds=[3.0]).aggregate(
        stats(loads=2, loads_failed=1, bytes_received=5_000_000, load_seconds=[1.0, 2.0]))
    assert total.reduce() == {"loads": 3, "reloads": 0, "loads failed": 1, "MB received": 5.0,
                              "median load (ms)": 2000.0, "sends": 0, "errors": 0}
    total.reset()
    assert total.is_empty()


def test_inside_a_multi_connector_they_are_found_by_name():
    sent = MultiKVConnectorStats({"BatonConnector": stats(loads=2)}).to_dict()
    came = MultiConnector.build_kv_connector_stats(sent)
    assert came.aggregate(MultiConnector.build_kv_connector_stats(sent)).reduce()[
        "BatonConnector"]["loads"] == 4


def test_prometheus():
    registry = CollectorRegistry()

    def into(kind):
        return lambda **arguments: kind(registry=registry, **arguments)

    class Config:
        kv_transfer_config = None

    metrics = BatonPromMetrics(Config, {Counter: into(Counter), Gauge: into(Gauge),
                                        Histogram: into(Histogram)},
                               ["model_name", "engine"], {0: ["m", "0"], 1: ["m", "1"]})
    metrics.observe(stats(loads=2, bytes_received=7, load_seconds=[0.02]).to_dict(), 1)
    metrics.observe(stats(loads=1).to_dict(), 1)
    labels = {"model_name": "m", "engine": "1"}
    assert registry.get_sample_value("vllm:baton_loads_total", labels) == 3
    assert registry.get_sample_value("vllm:baton_bytes_received_total", labels) == 7
    assert registry.get_sample_value("vllm:baton_load_seconds_bucket",
                                     {**labels, "le": "0.03"}) == 1
    for name in COUNTS:
        assert registry.get_sample_value(f"vllm:baton_{name}_total",
                                         {"model_name": "m", "engine": "0"}) == 0
