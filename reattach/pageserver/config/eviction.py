"""The `disk_usage_based_eviction` table."""

from __future__ import annotations

from typing import Any

import msgspec

from reattach.pageserver.config.errors import ConfigError, from_validation
from reattach.runtime.humantime import parse_duration


class MockStatvfs(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="Success"):
    """Stands in for the file system's answer: so many blocks, the layer files are what is used."""

    blocksize: int
    total_blocks: int
    name_filter: str | None = None


class EvictionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """When layers leave the disk by themselves. `period` in seconds, sizes in bytes."""

    enabled: bool = True
    max_usage_pct: int = 80
    min_avail_bytes: int = 2_000_000_000
    period: float = 60.0
    mock_statvfs: MockStatvfs | None = None


class _Wire(msgspec.Struct, frozen=True, kw_only=True):
    enabled: bool = True
    max_usage_pct: int = 80
    min_avail_bytes: int = 2_000_000_000
    period: str = "60s"
    mock_statvfs: MockStatvfs | None = None
    eviction_order: dict[str, Any] = {}


KEYS = frozenset(_Wire.__struct_fields__)


def parse_eviction(file: str, table: dict[str, Any]) -> EvictionConfig:
    """Raises ConfigError."""
    name = "disk_usage_based_eviction"
    try:
        wire = msgspec.convert(table, _Wire)
    except msgspec.ValidationError as e:
        raise from_validation(file, name, e) from e
    if not 0 < wire.max_usage_pct <= 100:
        raise ConfigError(file, f"{name}.max_usage_pct", f"is a percentage, not {wire.max_usage_pct}")
    try:
        period = parse_duration(wire.period)
    except ValueError as e:
        raise ConfigError(file, f"{name}.period", str(e)) from e
    return EvictionConfig(
        enabled=wire.enabled,
        max_usage_pct=wire.max_usage_pct,
        min_avail_bytes=wire.min_avail_bytes,
        period=period,
        mock_statvfs=wire.mock_statvfs,
    )
