"""A tenant's configuration as the API tells it: what was set, the file's defaults, the built-in ones."""

from __future__ import annotations

from collections.abc import Mapping

DEFAULTS: Mapping[str, object] = {
    "checkpoint_distance": 256 * 1024 * 1024,
    "checkpoint_timeout": "10m",
    "compaction_target_size": 128 * 1024 * 1024,
    "compaction_period": "20s",
    "compaction_threshold": 10,
    "compaction_upper_limit": 10,
    "compaction_algorithm": {"kind": "legacy"},
    "compaction_shard_ancestor": True,
    "compaction_l0_first": True,
    "compaction_l0_semaphore": True,
    "l0_flush_delay_threshold": None,
    "l0_flush_stall_threshold": None,
    "gc_horizon": 64 * 1024 * 1024,
    "gc_period": "1h",
    "image_creation_threshold": 3,
    "image_layer_force_creation_period": None,
    "pitr_interval": "7days",
    "walreceiver_connect_timeout": "10s",
    "lagging_wal_timeout": "10s",
    "max_lsn_wal_lag": 1024 * 1024 * 1024,
    "eviction_policy": {"kind": "NoEviction"},
    "min_resident_size_override": None,
    "evictions_low_residence_duration_metric_threshold": "1day",
    "heatmap_period": "0s",
    "lazy_slru_download": False,
    "timeline_get_throttle": {
        "task_kinds": [],
        "initial": 0,
        "refill_interval": "1ms",
        "refill_amount": 1,
        "max": 1,
    },
    "image_layer_creation_check_threshold": 2,
    "image_creation_preempt_threshold": 3,
    "lsn_lease_length": "10m",
    "lsn_lease_length_for_ts": "1m",
    "timeline_offloading": True,
    "rel_size_v2_enabled": False,
    "gc_compaction_enabled": True,
    "gc_compaction_verification": True,
    "gc_compaction_initial_threshold_kb": 5 * 1024 * 1024,
    "gc_compaction_ratio_percent": 100,
    "sampling_ratio": None,
    "relsize_snapshot_cache_capacity": 1000,
    "basebackup_cache_enabled": False,
}
"""The real pageserver's, durations in the form in which it writes them. None: not set."""

_ONLY_IF_TRUE = "basebackup_cache_enabled"


def effective_config(server: Mapping[str, object], tenant: Mapping[str, object]) -> dict[str, object]:
    """Every key with the value that counts. server: `tenant_config` of `pageserver.toml`; tenant: what was
    set for the tenant, where None sets nothing.
    """
    overrides = {key: value for key, value in tenant.items() if value is not None}
    result = {**DEFAULTS, **server, **overrides}
    if not result[_ONLY_IF_TRUE]:
        del result[_ONLY_IF_TRUE]
    return result
