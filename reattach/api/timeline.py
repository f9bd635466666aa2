"""What the API says of a timeline."""

from __future__ import annotations

import msgspec

from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.lsn import Lsn


class TimelineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A timeline as `GET /v1/tenant/:id/timeline/:timeline_id` answers it. Sizes in bytes."""

    tenant_id: TenantShardId
    timeline_id: TimelineId
    ancestor_timeline_id: TimelineId | None = None
    ancestor_lsn: Lsn | None = None
    last_record_lsn: Lsn
    prev_record_lsn: Lsn | None
    applied_gc_cutoff_lsn: Lsn
    min_readable_lsn: Lsn
    disk_consistent_lsn: Lsn
    remote_consistent_lsn: Lsn
    remote_consistent_lsn_visible: Lsn
    initdb_lsn: Lsn
    current_logical_size: int
    current_logical_size_is_accurate: bool
    directory_entries_counts: list[int] = msgspec.field(default_factory=lambda: [0] * 8)
    current_physical_size: int | None = None
    current_logical_size_non_incremental: int | None = None
    pitr_history_size: int = 0
    within_ancestor_pitr: bool = False
    timeline_dir_layer_file_size_sum: int | None = None
    wal_source_connstr: str | None = None
    last_received_msg_lsn: Lsn | None = None
    last_received_msg_ts: int | None = None
    pg_version: int
    state: str | dict[str, object]
    walreceiver_status: str = "Not active"
    is_archived: bool | None = False
    rel_size_migration: str | None = "legacy"
    rel_size_migrated_at: Lsn | None = None
    is_invisible: bool | None = False


class HistoricLayerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A layer of the layer map. `remote` says that it is not on the pageserver's disk."""

    kind: str
    layer_file_name: str
    layer_file_size: int
    lsn_start: Lsn
    remote: bool
    access_stats: dict[str, object] = {}


class LayerMapInfo(msgspec.Struct, frozen=True):
    in_memory_layers: list[object]
    historic_layers: list[HistoricLayerInfo]


class ScanDisposableKeysResponse(msgspec.Struct, frozen=True):
    disposable_count: int
    not_disposable_count: int

    def __add__(self, other: ScanDisposableKeysResponse) -> ScanDisposableKeysResponse:
        return ScanDisposableKeysResponse(
            self.disposable_count + other.disposable_count,
            self.not_disposable_count + other.not_disposable_count,
        )
