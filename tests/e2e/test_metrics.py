"""The metrics that others call by name: those names, with those labels, counting what happened."""

from baton import TRANSPORT, KV_BYTES_PER_TOKEN, prompt_of
from handed_off import assert_handed_off

ENDS = {"committed", "refused", "cancelled", "expired", "failed"}
STAGES = {"queued", "offer", "wait_compute", "gather", "send", "verify_scatter"}

# DESIGN.md's contract: what a node shows from its start. {label: its values}; a channel's name
# comes with the first handoff over it.
CONTRACT = {
    "baton_handoffs_total": {"end": ENDS, "channel": {"none"}},
    "baton_handoff_bytes_total": {},
    "baton_handoff_seconds_count": {"stage": STAGES},
    "baton_handoff_seconds_sum": {"stage": STAGES},
    "baton_copied_bytes_total": {"why": {
        "gather", "scatter", "sent_from_blocks", "received_into_blocks", "tier_load",
        "retain_received", "kept", "bounced"}},
    "baton_slots": {"state": {"free", "held", "quarantined"}, "pool": {"retained", "transit"}},
    "baton_quarantined_bytes": {"peer": {"self"}},
    "baton_checksum_failures_total": {"where": {"handoff", "host", "retain"}},
    "baton_gpu_copies_late_total": {},
    "baton_heartbeats_missed_total": {},
    "baton_prompt_tokens_computed_total": {},
}


def shown(metrics):
    """{name of the contract: {label: its values}} as that process shows it."""
    found = {}
    for name, labels, _ in metrics.samples:
        if name in CONTRACT:
            values = found.setdefault(name, {})
            for label, value in labels.items():
                values.setdefault(label, set()).add(value)
    return found


def test_names_and_labels_are_the_contracts(baton, alone):
    cluster = baton.cluster()
    for engine in cluster.engines:
        assert shown(engine.metrics()) == CONTRACT

    prompt = prompt_of(200)
    assert_handed_off(cluster.complete(prompt), alone(prompt), 200)
    cluster.wait_idle()
    for engine in cluster.engines:
        metrics = engine.metrics()
        channels = {"none", TRANSPORT}
        assert shown(metrics) == {
            **CONTRACT, "baton_handoffs_total": {"end": ENDS, "channel": channels}}
        assert metrics.value("baton_handoffs_total") == 1
        assert metrics.value("baton_handoffs_total", end="committed", channel=TRANSPORT) == 1
        assert metrics.value("baton_handoff_bytes_total") == 200 * KV_BYTES_PER_TOKEN
        assert metrics.value("baton_checksum_failures_total") == 0
    sender, receiver = cluster.prefiller.metrics(), cluster.decoder.metrics()
    took = lambda metrics: {stage for stage in STAGES
                            if metrics.value("baton_handoff_seconds_count", stage=stage) > 0}
    assert took(sender) | took(receiver) == STAGES
    assert sender.value("baton_copied_bytes_total", why="gather") == 200 * KV_BYTES_PER_TOKEN
    # By a scatter, or by the system where the channel receives into the engine's blocks.
    assert (receiver.value("baton_copied_bytes_total", why="scatter") +
            receiver.value("baton_copied_bytes_total", why="received_into_blocks")
            == 200 * KV_BYTES_PER_TOKEN)
    assert sender.value("baton_prompt_tokens_computed_total") == 200
    assert receiver.value("baton_prompt_tokens_computed_total") == 1


def test_the_router_uses_the_fields_own_names(baton):
    cluster = baton.cluster()
    assert cluster.router.api.stream_completion(prompt_of(50)).read().status == 200
    metrics = cluster.router.metrics()
    assert metrics.value("baton_router_time_to_first_token_seconds_count") == 1
    assert "baton_router_inter_token_latency_seconds_count" in metrics.names()
    assert metrics.value("baton_router_e2e_request_latency_seconds_count") == 1
    assert metrics.value("baton_router_requests_total", route="/v1/completions", code="200") == 1
