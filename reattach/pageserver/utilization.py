"""How full this pageserver is: of disk space and of tenant shards."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from reattach.pageserver.config.eviction import EvictionConfig

MAX_SHARDS = 2500
_CACHE_SECONDS = 1.0


class Utilization(msgspec.Struct, frozen=True):
    """Sizes in bytes. `utilization_score`: a million means full."""

    disk_usage_bytes: int
    free_space_bytes: int
    disk_wanted_bytes: int
    disk_usable_pct: int
    shard_count: int
    max_shard_count: int
    utilization_score: int
    captured_at: str


def score(*, disk_wanted: int, disk_usable: int, shard_count: int) -> int:
    """Whichever of disk and shards is closer to its limit, in millionths."""
    return max(disk_wanted * 1_000_000 // max(disk_usable, 1), shard_count * 1_000_000 // MAX_SHARDS)


class UtilizationMeter:
    """Looks at most once a second."""

    def __init__(self, directory: Path, eviction: EvictionConfig) -> None:
        self._directory = directory
        self._usable_pct = eviction.max_usage_pct if eviction.enabled else 100
        self._measured_at = 0.0
        self._last: Utilization | None = None

    def measure(self, *, disk_wanted: Callable[[], int], shard_count: int) -> Utilization:
        """`disk_wanted`: gives the bytes of all layers of the attached shards. Raises OSError."""
        now = time.monotonic()
        if self._last is None or now - self._measured_at >= _CACHE_SECONDS:
            self._last = self._measure(disk_wanted(), shard_count)
            self._measured_at = now
        return self._last

    def _measure(self, disk_wanted: int, shard_count: int) -> Utilization:
        stat = os.statvfs(self._directory)
        used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize
        free = stat.f_bavail * stat.f_frsize
        usable = (used + free) * self._usable_pct // 100
        now = datetime.now(UTC)
        return Utilization(
            disk_usage_bytes=used,
            free_space_bytes=free,
            disk_wanted_bytes=disk_wanted,
            disk_usable_pct=self._usable_pct,
            shard_count=shard_count,
            max_shard_count=MAX_SHARDS,
            utilization_score=score(disk_wanted=disk_wanted, disk_usable=usable, shard_count=shard_count),
            captured_at=f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z",
        )
