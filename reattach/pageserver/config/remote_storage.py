"""The `remote_storage` table: a directory or an S3 bucket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from reattach.pageserver.config.errors import ConfigError, from_validation
from reattach.runtime.humantime import parse_duration


class LocalFsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Objects are files below `local_path`. Timeouts in seconds."""

    local_path: Path
    timeout: float = 120.0
    small_timeout: float = 30.0


class S3Config(msgspec.Struct, frozen=True, kw_only=True):
    """Objects of a bucket, below `prefix_in_bucket`. Timeouts in seconds."""

    bucket_name: str
    bucket_region: str
    prefix_in_bucket: str = ""
    endpoint: str | None = None
    concurrency_limit: int = 100
    timeout: float = 120.0
    small_timeout: float = 30.0


RemoteStorageConfig = LocalFsConfig | S3Config


class _Wire(msgspec.Struct, frozen=True, kw_only=True):
    local_path: str | None = None
    bucket_name: str | None = None
    bucket_region: str | None = None
    prefix_in_bucket: str | None = None
    endpoint: str | None = None
    concurrency_limit: int = 100
    max_keys_per_list_response: int | None = None
    upload_storage_class: str | None = None
    timeout: str = "120s"
    small_timeout: str = "30s"


KEYS = frozenset(_Wire.__struct_fields__)


def parse_remote_storage(file: str, table: dict[str, Any], workdir: Path) -> RemoteStorageConfig:
    """Reads the table; a relative `local_path` is relative to the working directory. Raises ConfigError."""
    try:
        wire = msgspec.convert(table, _Wire)
    except msgspec.ValidationError as e:
        raise from_validation(file, "remote_storage", e) from e
    seconds = {}
    for name in ("timeout", "small_timeout"):
        try:
            seconds[name] = parse_duration(getattr(wire, name))
        except ValueError as e:
            raise ConfigError(file, f"remote_storage.{name}", str(e)) from e
    if wire.local_path is not None:
        return LocalFsConfig(local_path=workdir / wire.local_path, **seconds)
    if wire.bucket_name is None or wire.bucket_region is None:
        raise ConfigError(file, "remote_storage", "needs local_path, or bucket_name and bucket_region")
    if wire.concurrency_limit <= 0:
        raise ConfigError(file, "remote_storage.concurrency_limit", "must be above zero")
    return S3Config(
        bucket_name=wire.bucket_name,
        bucket_region=wire.bucket_region,
        prefix_in_bucket=(wire.prefix_in_bucket or "").strip("/"),
        endpoint=wire.endpoint,
        concurrency_limit=wire.concurrency_limit,
        **seconds,
    )
