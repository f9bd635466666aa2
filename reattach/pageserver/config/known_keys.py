"""Keys of `pageserver.toml` that the field's files contain and that mean nothing to this engine.

They are taken without a warning, so that one file serves either engine; the log says once which they are.
"""

from __future__ import annotations

_IGNORED = """
    basebackup_cache_config broker_endpoint broker_keepalive_interval
    concurrent_tenant_size_logical_size_queries dev_mode enable_read_path_debugging
    ephemeral_bytes_per_memory_kb force_metric_collection_on_scrape
    generate_unarchival_heatmap get_vectored_concurrent_io grpc_auth_type
    image_layer_generation_large_timeline_threshold import_pgdata_upcall_api import_pgdata_upcall_api_token
    ingest_batch_size l0_flush listen_grpc_addr load_previous_heatmap locale log_format
    max_file_descriptors max_get_vectored_keys max_vectored_read_bytes metric_collection_bucket
    metric_collection_endpoint metric_collection_interval ondemand_download_behavior_treat_error_as_warn
    page_cache_size page_service_pipelining posthog_config secondary_download_concurrency
    heatmap_upload_concurrency ssl_ca_file ssl_cert_reload_period superuser
    synthetic_size_calculation_interval test_remote_failures test_remote_failures_probability
    timeline_offloading tracing validate_wal_contiguity virtual_file_io_engine virtual_file_io_mode
    wait_lsn_timeout wal_redo_timeout
"""

IGNORED_KEYS = frozenset(_IGNORED.split())

IGNORED_INSIDE = {
    "remote_storage": frozenset({"max_keys_per_list_response", "upload_storage_class", "small_timeout"}),
    "disk_usage_based_eviction": frozenset({"eviction_order"}),
}
"""The same, of tables that mean something otherwise."""
