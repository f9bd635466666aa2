"""Heatmaps: which layers an attached shard uses, for a secondary to keep warm."""

from __future__ import annotations

from typing import Any

import msgspec

from reattach.api import codec
from reattach.api.ids import TimelineId
from reattach.pageserver.layers.index_part import LayerFileMetadata
from reattach.pageserver.tenant.shard import TenantShard
from reattach.pageserver.timeline.timeline import Timeline, TimelineState
from reattach.runtime.humantime import parse_duration


class HeatmapLayer(msgspec.Struct, frozen=True):
    """`access_time` in seconds since the epoch."""

    name: str
    metadata: LayerFileMetadata
    access_time: int
    cold: bool = False


class HeatmapTimeline(msgspec.Struct, frozen=True):
    timeline_id: TimelineId
    layers: list[HeatmapLayer]


class Heatmap(msgspec.Struct, frozen=True):
    """Timelines that are being imported are not in it."""

    generation: int
    timelines: list[HeatmapTimeline]
    upload_period_ms: int | None = None

    def to_json_bytes(self) -> bytes:
        return codec.encode(self)

    @classmethod
    def from_json_bytes(cls, raw: bytes) -> Heatmap:
        """Raises codec.DecodeError."""
        return codec.decode(raw, cls)


def heatmap_period(tenant_conf: dict[str, Any]) -> float | None:
    """Seconds between uploads; None if the tenant wants none, or says it in a way that cannot be read."""
    text = tenant_conf.get("heatmap_period")
    if not isinstance(text, str):
        return None
    try:
        return parse_duration(text) or None
    except ValueError:
        return None


def heatmap_of(shard: TenantShard) -> Heatmap:
    period = heatmap_period(shard.conf.tenant_conf)
    return Heatmap(
        shard.generation,
        [
            _timeline(timeline)
            for timeline in shard.timelines.values()
            if timeline.state is TimelineState.ACTIVE
        ],
        None if period is None else int(period * 1000),
    )


def _timeline(timeline: Timeline) -> HeatmapTimeline:
    """The layers on the disk that remote storage has too."""
    return HeatmapTimeline(
        timeline.timeline_id,
        [
            HeatmapLayer(str(layer.name), layer.metadata, int(layer.accessed_at))
            for layer in timeline.layers
            if layer.is_resident and layer.is_uploaded
        ],
    )
