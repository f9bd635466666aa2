"""Object names in a pageserver's remote storage, relative to its prefix."""

from __future__ import annotations

from reattach.api.ids import ShardIndex, TenantId, TenantShardId, TimelineId
from reattach.api.layer_name import LayerName, generation_suffix


def tenant_prefix(tenant_shard_id: TenantShardId) -> str:
    return f"tenants/{tenant_shard_id}"


def timeline_prefix(tenant_shard_id: TenantShardId, timeline_id: TimelineId) -> str:
    return f"{tenant_prefix(tenant_shard_id)}/timelines/{timeline_id}"


def layer_path(
    tenant_id: TenantId, shard: ShardIndex, timeline_id: TimelineId, name: LayerName, generation: int | None
) -> str:
    """Where a layer lies. `shard` is the shard that wrote it."""
    return f"tenants/{tenant_id}{shard.suffix}/timelines/{timeline_id}/{name.remote_object(generation)}"


def index_path(tenant_shard_id: TenantShardId, timeline_id: TimelineId, generation: int | None) -> str:
    return f"{timeline_prefix(tenant_shard_id, timeline_id)}/index_part.json{generation_suffix(generation)}"


def tombstones_prefix(tenant_shard_id: TenantShardId) -> str:
    return f"{tenant_prefix(tenant_shard_id)}/deleted-timelines"


def tombstone_path(tenant_shard_id: TenantShardId, timeline_id: TimelineId, generation: int) -> str:
    """An object that says that no attachment up to `generation` has the timeline any more."""
    return f"{tombstones_prefix(tenant_shard_id)}/{timeline_id}{generation_suffix(generation)}"


def tenant_manifest_path(tenant_shard_id: TenantShardId, generation: int | None) -> str:
    return f"{tenant_prefix(tenant_shard_id)}/tenant-manifest{generation_suffix(generation)}.json"


def heatmap_path(tenant_shard_id: TenantShardId) -> str:
    return f"{tenant_prefix(tenant_shard_id)}/heatmap-v1.json"


def parse_generation(object_name: str) -> int | None:
    """The generation that an index or layer object's name ends with, None if it has none.

    Raises ValueError if what follows the last dash is not 8 hex digits.
    """
    _, dash, suffix = object_name.rpartition("-")
    if not dash or "__" in suffix:
        return None
    if len(suffix) != 8:
        raise ValueError(f"{object_name!r} ends with no generation")
    return int(suffix, 16)
