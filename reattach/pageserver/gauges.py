"""Metrics that are read off the tenants when somebody asks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from reattach.pageserver.metrics import Gauges, Labels
from reattach.pageserver.tenant.manager import TenantManager
from reattach.pageserver.tenant.state import Phase
from reattach.pageserver.timeline.timeline import Timeline

Sample = tuple[str, str, Labels, Iterable[tuple[Labels, float]]]

_TIMELINE_LABELS = ("tenant_id", "shard_id", "timeline_id")


def tenant_gauges(tenants: TenantManager, version: str) -> Gauges:
    launched_at = time.time()

    def gauges() -> Iterable[Sample]:
        yield "libmetrics_launch_timestamp", "When this process started", (), [((), launched_at)]
        build = ("revision", "build_tag")
        yield "libmetrics_build_info", "What this process runs", build, [((version, ""), 1.0)]
        states = Counter(str(shard.state.phase) for shard in tenants.attached())
        yield (
            "pageserver_tenant_states_count",
            "Attached tenant shards by state",
            ("state",),
            [((str(phase),), states[str(phase)]) for phase in Phase],
        )
        yield (
            "pageserver_broken_tenants_count",
            "Tenant shards that could not be attached",
            ("tenant_id", "shard_id"),
            [
                ((str(shard.id.tenant_id), str(shard.id.shard_index)), 1.0)
                for shard in tenants.attached()
                if shard.state.phase is Phase.BROKEN
            ],
        )
        yield "pageserver_tenant_slots", "Tenant shards of any mode", (), [((), tenants.slot_count)]
        imports = sum(len(shard.importing) for shard in tenants.attached())
        yield "pageserver_imports_pending", "Imports that are not activated", (), [((), imports)]
        yield from _timelines(tenants)

    return gauges


def _timelines(tenants: TenantManager) -> Iterable[Sample]:
    timelines = [t for shard in tenants.attached() for t in shard.all_timelines()]

    def per_timeline(name: str, text: str, values: list[float]) -> Sample:
        labelled = [(_labels(t), value) for t, value in zip(timelines, values, strict=True)]
        return name, text, _TIMELINE_LABELS, labelled

    yield per_timeline(
        "pageserver_resident_physical_size",
        "Bytes of the layers on the disk",
        [t.resident_size for t in timelines],
    )
    yield per_timeline(
        "pageserver_remote_physical_size",
        "Bytes of the layers that the index references",
        [t.client.remote_size for t in timelines],
    )
    yield per_timeline("pageserver_layer_count", "Layers", [len(t.layers) for t in timelines])
    yield per_timeline(
        "pageserver_last_record_lsn",
        "End of the timeline",
        [t.last_record_lsn.lsn_int for t in timelines],
    )
    yield per_timeline(
        "pageserver_disk_consistent_lsn",
        "End of what is on the disk",
        [t.metadata.disk_consistent_lsn.lsn_int for t in timelines],
    )
    yield per_timeline(
        "pageserver_projected_remote_consistent_lsn",
        "End of what is in remote storage",
        [t.client.remote_consistent_lsn.lsn_int for t in timelines],
    )
    yield per_timeline(
        "pageserver_current_logical_size",
        "Bytes of all relations",
        [t.logical_size or 0 for t in timelines],
    )


def _labels(timeline: Timeline) -> Labels:
    shard = timeline.tenant_shard_id
    return (str(shard.tenant_id), str(shard.shard_index), str(timeline.timeline_id))
