"""What the API answers about a timeline."""

from __future__ import annotations

from reattach.api.lsn import INVALID_LSN
from reattach.api.timeline import HistoricLayerInfo, LayerMapInfo, TimelineInfo
from reattach.pageserver.timeline.timeline import Timeline, TimelineState


def timeline_info(timeline: Timeline) -> TimelineInfo:
    metadata, client = timeline.metadata, timeline.client
    is_shard_zero = timeline.shard.number == 0
    return TimelineInfo(
        tenant_id=timeline.tenant_shard_id,
        timeline_id=timeline.timeline_id,
        ancestor_timeline_id=metadata.ancestor_timeline,
        ancestor_lsn=metadata.ancestor_lsn if metadata.ancestor_timeline is not None else None,
        last_record_lsn=timeline.last_record_lsn,
        prev_record_lsn=metadata.prev_record_lsn or INVALID_LSN,
        applied_gc_cutoff_lsn=metadata.latest_gc_cutoff_lsn,
        min_readable_lsn=metadata.latest_gc_cutoff_lsn,
        disk_consistent_lsn=metadata.disk_consistent_lsn,
        remote_consistent_lsn=client.remote_consistent_lsn,
        remote_consistent_lsn_visible=client.remote_consistent_lsn_visible,
        initdb_lsn=metadata.initdb_lsn,
        current_logical_size=(timeline.logical_size or 0) if is_shard_zero else 0,
        current_logical_size_is_accurate=is_shard_zero and timeline.logical_size is not None,
        current_physical_size=timeline.resident_size,
        pg_version=metadata.pg_version,
        state=str(timeline.state),
        walreceiver_status="Not active" if timeline.state is TimelineState.ACTIVE else "stopping or stopped",
    )


def layer_map_info(timeline: Timeline) -> LayerMapInfo:
    return LayerMapInfo(
        in_memory_layers=[],
        historic_layers=[
            HistoricLayerInfo(
                kind="Image",
                layer_file_name=str(layer.name),
                layer_file_size=layer.metadata.file_size,
                lsn_start=layer.name.lsn,
                remote=not layer.is_resident,
                access_stats={
                    "access_time": int(layer.accessed_at * 1000),
                    "residence_time": int(layer.resident_since * 1000),
                    "visible": True,
                },
            )
            for layer in timeline.layers
        ],
    )
