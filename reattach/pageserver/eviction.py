"""Making room on the disk: layers that were used longest ago leave first."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from dataclasses import dataclass

import msgspec

from reattach.pageserver.config.eviction import EvictionConfig
from reattach.pageserver.context import Context
from reattach.pageserver.tenant.manager import TenantManager
from reattach.pageserver.timeline.layer import Layer
from reattach.pageserver.timeline.timeline import Timeline
from reattach.runtime.logs import span

log = logging.getLogger(__name__)


class Usage(msgspec.Struct, frozen=True):
    """Bytes: how many must go, how many went."""

    evict_bytes: int
    freed_bytes: int


@dataclass(frozen=True, slots=True)
class _Candidate:
    timeline: Timeline
    layer: Layer


def candidates(tenants: TenantManager) -> list[_Candidate]:
    """The layers on the disk that remote storage has too, of importing timelines also, oldest use first."""
    found = [
        _Candidate(timeline, layer)
        for shard in tenants.attached()
        for timeline in shard.all_timelines()
        for layer in timeline.layers
        if layer.is_resident and layer.is_uploaded
    ]
    return sorted(found, key=lambda each: each.layer.accessed_at)


async def evict_bytes(tenants: TenantManager, wanted: int) -> dict[str, object]:
    """Evicts until `wanted` bytes are free; answers what was planned and what came of it."""
    planned, chosen = 0, []
    for each in candidates(tenants):
        if planned >= wanted:
            break
        chosen.append(each)
        planned += each.layer.metadata.file_size
    freed, failed_bytes, failed_count = 0, 0, 0
    for each in chosen:
        size = each.layer.metadata.file_size
        if await each.timeline.evict(each.layer):
            freed += size
        else:
            failed_bytes += size
            failed_count += 1
    return {
        "before": Usage(wanted, 0),
        "planned": {
            "respecting_tenant_min_resident_size": Usage(wanted, planned),
            "fallback_to_global_lru": None,
        },
        "assumed": {
            "projected_after": Usage(wanted, freed),
            "failed": {"file_sizes": failed_bytes, "count": failed_count},
        },
    }


def pressure(config: EvictionConfig, *, total: int, available: int) -> int:
    """How many bytes must go so that usage and available space are within the limits. Sizes in bytes."""
    allowed_use = total * config.max_usage_pct // 100
    return max(total - available - allowed_use, config.min_avail_bytes - available, 0)


def _disk(context: Context, tenants: TenantManager) -> tuple[int, int]:
    """(total, available) bytes. Raises OSError."""
    mock = context.config.eviction.mock_statvfs
    if mock is None:
        stat = os.statvfs(context.tenants_directory)
        return stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize
    pattern = re.compile(mock.name_filter or "")
    used = sum(
        layer.metadata.file_size
        for shard in tenants.attached()
        for timeline in shard.all_timelines()
        for layer in timeline.layers
        if layer.is_resident and pattern.search(layer.file_name)
    )
    total = mock.blocksize * mock.total_blocks
    return total, max(total - used, 0)


async def run_eviction(context: Context, tenants: TenantManager, evicting: asyncio.Lock) -> None:
    """Looks for disk pressure from time to time, until cancelled."""
    config = context.config.eviction
    if not config.enabled:
        return
    with span("disk_usage_based_eviction"):
        while True:
            await asyncio.sleep(config.period)
            try:
                total, available = _disk(context, tenants)
                wanted = pressure(config, total=total, available=available)
                if wanted and candidates(tenants):
                    async with evicting:
                        result = await evict_bytes(tenants, wanted)
                    log.info("disk pressure of %d bytes: %s", wanted, result)
            except OSError as e:
                log.error("cannot make room on the disk: %s", e)
