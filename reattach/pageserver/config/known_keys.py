"""Keys of `pageserver.toml` that the field's files contain and that mean nothing to this engine.

They are taken without a warning, so that one file serves either engine.
"""

from __future__ import annotations

_IGNORED = """
    basebackup_cache_config broker_endpoint broker_keepalive_interval
    concurrent_tenant_size_logical_size_queries dev_mode enable_read_path_debugging
    enable_tls_page_service_api ephemeral_bytes_per_memory_kb force_metric_collection_on_scrape
    generate_unarchival_heatmap get_vectored_concurrent_io grpc_auth_type
    image_layer_generation_large_timeline_threshold import_pgdata_upcall_api import_pgdata_upcall_api_token
    ingest_batch_size l0_flush listen_grpc_addr listen_https_addr load_previous_heatmap locale log_format
    max_file_descriptors max_get_vectored_keys max_vectored_read_bytes metric_collection_bucket
    metric_collection_endpoint metric_collection_interval ondemand_download_behavior_treat_error_as_warn
    page_cache_size page_service_pipelining posthog_config secondary_download_concurrency
    heatmap_upload_concurrency ssl_ca_file ssl_cert_file ssl_cert_reload_period ssl_key_file superuser
    synthetic_size_calculation_interval test_remote_failures test_remote_failures_probability
    timeline_offloading tracing validate_wal_contiguity virtual_file_io_engine virtual_file_io_mode
    wait_lsn_timeout wal_redo_timeout
"""

_TENANT_CONFIG = """
    basebackup_cache_enabled checkpoint_distance checkpoint_timeout compaction_algorithm compaction_l0_first
    compaction_l0_semaphore compaction_period compaction_shard_ancestor compaction_target_size
    compaction_threshold compaction_upper_limit eviction_policy
    evictions_low_residence_duration_metric_threshold gc_compaction_enabled
    gc_compaction_initial_threshold_kb gc_compaction_ratio_percent gc_compaction_verification gc_horizon
    gc_period heatmap_period image_creation_preempt_threshold image_creation_threshold
    image_layer_creation_check_threshold image_layer_force_creation_period l0_flush_delay_threshold
    l0_flush_stall_threshold lagging_wal_timeout lazy_slru_download lsn_lease_length
    lsn_lease_length_for_ts max_lsn_wal_lag min_resident_size_override pitr_interval rel_size_v2_enabled
    relsize_snapshot_cache_capacity sampling_ratio timeline_get_throttle timeline_offloading
    walreceiver_connect_timeout
"""

IGNORED_KEYS = frozenset(_IGNORED.split())
TENANT_CONFIG_KEYS = frozenset(_TENANT_CONFIG.split())
