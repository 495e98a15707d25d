"""What of vLLM's own connector tests is run, and what must become of it. README.md beside this file
says how it was found."""

# Files, or single tests of a file.
RUN = (
    "test_remote_prefill_lifecycle.py",
    "test_remote_decode_lifecycle.py",
    "test_kv_load_failure_recovery.py",
    "test_invalid_blocks_correctness.py",
    "test_cache_pollution_prevention.py",
    "test_error_propagation.py",
    "test_multi_connector.py",
    "test_nixl_simple_cpu_offload.py",
    "test_nixl_connector.py::test_basic_interface",
    "test_nixl_connector.py::test_prompt_less_than_block_size",
    "test_nixl_connector.py::test_abort_immediately_remote_prefill_enqueues_empty_recv",
    "test_nixl_connector.py::test_prefill_exports_cached_tokens_in_kv_transfer_params",
    "test_nixl_connector.py::test_scheduler_kv_connector_stats_aggregation",
)

# With no connector does it run here: it needs a GPU, or a model of a hub in blocks of 16 tokens.
CANNOT_RUN = (
    "test_multi_connector.py::test_multi_connector_mixed_hma_disables_hybrid_kv_cache",
    "test_multi_connector.py::test_multi_example_connector_consistency",
)

# Passes with NIXL's connector and with ours.
PASSES = (
    "test_remote_prefill_lifecycle.py::test_basic_lifecycle",
    "test_remote_prefill_lifecycle.py::test_interleaved_lifecycle",
    "test_remote_prefill_lifecycle.py::test_no_spurious_prefix_caching",
    "test_remote_prefill_lifecycle.py::test_full_block_prompt",
    "test_remote_prefill_lifecycle.py::test_cannot_schedule_after_recv",
    "test_remote_prefill_lifecycle.py::test_cannot_recv",
    "test_remote_prefill_lifecycle.py::test_kv_fetch_stages_cleared_on_abort",
    "test_remote_prefill_lifecycle.py::test_async_load_reserves_blocks_for_inflight",
    "test_remote_prefill_lifecycle.py::test_async_loads_both_admitted_when_pool_fits",
    "test_remote_prefill_lifecycle.py::"
    "test_async_load_reserves_blocks_for_promotion_margin[single-group]",
    "test_remote_prefill_lifecycle.py::test_deferred_lookup_does_not_block_parked_load",
    "test_remote_decode_lifecycle.py::test_basic_lifecycle",
    "test_remote_decode_lifecycle.py::test_short_prompt_lifecycle",
    "test_remote_decode_lifecycle.py::test_prefix_cache_lifecycle",
    "test_remote_decode_lifecycle.py::test_abort_during_kv_transfer",
    "test_kv_load_failure_recovery.py::test_failed_receive_completion_honors_failure_policy[fail]",
    "test_kv_load_failure_recovery.py::"
    "test_failed_receive_completion_honors_failure_policy[recompute]",
    "test_kv_load_failure_recovery.py::test_async_load_failure[100-99-invalid_block_idxs0]",
    "test_kv_load_failure_recovery.py::test_async_load_failure[100-99-invalid_block_idxs1]",
    "test_kv_load_failure_recovery.py::test_async_load_failure[100-99-invalid_block_idxs2]",
    "test_kv_load_failure_recovery.py::test_sync_load_failure[100-99-invalid_block_idxs0]",
    "test_kv_load_failure_recovery.py::test_sync_load_failure[100-99-invalid_block_idxs1]",
    "test_kv_load_failure_recovery.py::test_sync_load_failure[100-99-invalid_block_idxs2]",
    "test_kv_load_failure_recovery.py::"
    "test_sync_load_failure_with_shared_blocks[100-99-50-invalid_block_idxs0]",
    "test_kv_load_failure_recovery.py::"
    "test_sync_load_failure_with_shared_blocks[100-99-50-invalid_block_idxs1]",
    "test_kv_load_failure_recovery.py::"
    "test_sync_load_failure_with_shared_blocks[100-99-50-invalid_block_idxs2]",
    "test_kv_load_failure_recovery.py::"
    "test_async_progressive_load_failure[100-99-invalid_block_idxs0]",
    "test_kv_load_failure_recovery.py::"
    "test_async_progressive_load_failure[100-99-invalid_block_idxs1]",
    "test_invalid_blocks_correctness.py::"
    "test_sync_recompute_blocks_not_freed_for_running_requests",
    "test_invalid_blocks_correctness.py::test_sync_fail_invalid_blocks_evicted",
    "test_invalid_blocks_correctness.py::test_async_recompute_blocks_not_cached_when_invalid",
    "test_cache_pollution_prevention.py::test_invalid_blocks_evicted_prevents_cache_pollution",
    "test_error_propagation.py::test_error_propagation_sync_load",
    "test_error_propagation.py::test_error_propagation_async_load",
    "test_multi_connector.py::test_register_finished_partial_tail_notifies_every_connector",
    "test_multi_connector.py::test_loaded_groups_follow_the_connector_serving_the_request[0]",
    "test_multi_connector.py::test_loaded_groups_follow_the_connector_serving_the_request[1]",
    "test_multi_connector.py::test_multi_connector_mem_pool_context_none",
    "test_multi_connector.py::test_multi_connector_forwards_mem_pool_context",
    "test_multi_connector.py::test_multi_connector_rejects_multiple_mem_pool_contexts",
    "test_multi_connector.py::test_cache_hit_sources_delegate_to_selected_connector",
    "test_multi_connector.py::test_engine_id_conflict",
    "test_multi_connector.py::test_multi_connector_handle_preemptions_integration",
    "test_multi_connector.py::TestMultiConnectorStats::test_build_kv_connector_stats_with_none",
    "test_multi_connector.py::"
    "TestMultiConnectorStats::test_build_kv_connector_stats_with_empty_dict",
    "test_multi_connector.py::"
    "TestMultiConnectorStats::test_build_kv_connector_stats_reconstructs_nixl_stats",
    "test_multi_connector.py::"
    "TestMultiConnectorStats::test_build_kv_connector_stats_with_multiple_connectors",
    "test_multi_connector.py::"
    "TestMultiConnectorStats::test_build_kv_connector_stats_raises_error_for_unknown_connector",
    "test_multi_connector.py::"
    "TestMultiConnectorStats::test_build_kv_connector_stats_with_already_instantiated_objects",
    "test_multi_connector.py::"
    "TestMultiConnectorStats::test_build_kv_connector_stats_with_mixed_objects_and_dicts",
    "test_multi_connector.py::"
    "TestMultiConnectorStats::test_build_kv_connector_stats_skips_connectors_without_custom_stats",
    "test_multi_connector.py::"
    "TestMultiConnectorStats::test_prom_metrics_passes_flat_data_to_children",
    "test_multi_connector.py::TestMultiConnectorStats::test_aggregate_same_connector",
    "test_multi_connector.py::TestMultiConnectorStats::test_aggregate_new_connector",
    "test_multi_connector.py::TestMultiConnectorStats::test_reduce",
    "test_multi_connector.py::TestMultiConnectorStats::test_log_renders_plain_scalars",
    "test_multi_connector.py::TestMultiConnectorStats::test_reset",
    "test_multi_connector.py::TestMultiConnectorStats::test_is_empty_with_multiple_connectors",
    "test_multi_connector.py::test_multi_connector_overrides_all_base_methods",
    "test_multi_connector.py::test_multi_connector_worker_metadata",
    "test_multi_connector.py::test_multi_connector_hma_support_detection",
    "test_multi_connector.py::test_divergent_local_hybrid_hit_capability_is_conservative",
    "test_nixl_simple_cpu_offload.py::test_nixl_wins_load_over_cpu_offload",
    "test_nixl_simple_cpu_offload.py::test_cpu_offload_wins_when_nixl_has_no_match",
    "test_nixl_simple_cpu_offload.py::test_request_finished_no_async_save[fa_only]",
    "test_nixl_connector.py::test_basic_interface",
    "test_nixl_connector.py::test_prompt_less_than_block_size",
    "test_nixl_connector.py::test_prefill_exports_cached_tokens_in_kv_transfer_params",
    "test_nixl_connector.py::test_scheduler_kv_connector_stats_aggregation",
)

# A model whose KV is not one group of full attention is refused at the start, by us or by vLLM.
REFUSED = (r"ValueError: (baton: the model's KV cache has the groups \[FullAttentionSpec, \w+\]|"
           r"Connector BatonConnector does not support HMA)")

# Passes with NIXL's connector, and with ours fails as the pattern says: README.md says why.
DIFFERS = {
    "test_remote_prefill_lifecycle.py::test_p_side_chunked_prefill_mamba": REFUSED,
    "test_remote_prefill_lifecycle.py::"
    "test_async_load_reserves_blocks_for_promotion_margin[multiple-groups]":
        REFUSED,
    "test_remote_prefill_lifecycle.py::"
    "test_async_load_reserves_blocks_for_promotion_margin[different-block-sizes]":
        REFUSED,
    "test_remote_prefill_lifecycle.py::"
    "test_async_load_does_not_double_reserve_mamba_spec_blocks[none-128-18]":
        REFUSED,
    "test_remote_prefill_lifecycle.py::"
    "test_async_load_does_not_double_reserve_mamba_spec_blocks[align-16-18]":
        REFUSED,
    "test_kv_load_failure_recovery.py::"
    "test_block_level_load_failure_fails_closed_with_multiple_groups":
        REFUSED,
    "test_nixl_simple_cpu_offload.py::test_request_finished_no_async_save[fa_sw]": REFUSED,
    # The prefiller hears of it by the end of a session, not by a load of nothing.
    "test_nixl_connector.py::test_abort_immediately_remote_prefill_enqueues_empty_recv":
        r"assert set\(\) == \{'id-42'\}",
}
