"""A timeline's metadata in `index_part.json`: an object today, an array of 512 bytes once."""

from __future__ import annotations

import struct

import google_crc32c
import msgspec

from reattach.api.ids import TimelineId
from reattach.api.lsn import INVALID_LSN, Lsn

_LEGACY_SIZE = 512
_LEGACY_HEADER = struct.Struct(">IHH")
_LEGACY_VERSION = 4
_PG_VERSIONS = (14, 15, 16, 17)


class TimelineMetadata(msgspec.Struct, frozen=True):
    """Where a timeline's history starts and ends, and which Postgres wrote it."""

    disk_consistent_lsn: Lsn
    prev_record_lsn: Lsn | None
    ancestor_timeline: TimelineId | None
    ancestor_lsn: Lsn
    latest_gc_cutoff_lsn: Lsn
    initdb_lsn: Lsn
    pg_version: int

    def __post_init__(self) -> None:
        if self.pg_version not in _PG_VERSIONS:
            raise ValueError(f"pg_version is one of {_PG_VERSIONS}, not {self.pg_version}")

    @classmethod
    def before_import(cls) -> TimelineMetadata:
        """What the first index of an import says, before the control file was read."""
        return cls(INVALID_LSN, None, None, INVALID_LSN, INVALID_LSN, INVALID_LSN, 15)

    @classmethod
    def of_import(cls, base_lsn: Lsn, pg_version: int) -> TimelineMetadata:
        """An imported timeline: it starts at `base_lsn`, and ends one record after it."""
        return cls(base_lsn + 8, base_lsn, None, INVALID_LSN, base_lsn, base_lsn, pg_version)


def read_legacy(raw: bytes) -> TimelineMetadata:
    """Reads the 512-byte form: CRC-32C, size and version, then the fields big-endian. Raises ValueError."""
    if len(raw) != _LEGACY_SIZE:
        raise ValueError(f"legacy metadata has {_LEGACY_SIZE} bytes, not {len(raw)}")
    checksum, size, version = _LEGACY_HEADER.unpack_from(raw)
    body = raw[_LEGACY_HEADER.size : size]
    if size > _LEGACY_SIZE or google_crc32c.value(body) != checksum:
        raise ValueError("legacy metadata has a wrong checksum")
    if version != _LEGACY_VERSION:
        raise ValueError(f"legacy metadata of version {version} is not supported")
    position = 0

    def take(width: int) -> bytes:
        nonlocal position
        position += width
        if position > len(body):
            raise ValueError("legacy metadata ends early")
        return body[position - width : position]

    def lsn() -> Lsn:
        return Lsn(int.from_bytes(take(8)))

    def present() -> bool:
        tag = take(1)
        if tag not in (b"\0", b"\1"):
            raise ValueError(f"legacy metadata has option tag {tag[0]}")
        return tag == b"\1"

    metadata = TimelineMetadata(
        disk_consistent_lsn=lsn(),
        prev_record_lsn=lsn() if present() else None,
        ancestor_timeline=TimelineId.from_bytes(take(16)) if present() else None,
        ancestor_lsn=lsn(),
        latest_gc_cutoff_lsn=lsn(),
        initdb_lsn=lsn(),
        pg_version=int.from_bytes(take(4)),
    )
    if position != len(body):
        raise ValueError(f"legacy metadata has {len(body) - position} bytes too many")
    return metadata


def write_legacy(metadata: TimelineMetadata) -> bytes:
    """The 512-byte form."""

    def lsn(value: Lsn) -> bytes:
        return value.lsn_int.to_bytes(8)

    body = b"".join(
        (
            lsn(metadata.disk_consistent_lsn),
            b"\0" if metadata.prev_record_lsn is None else b"\1" + lsn(metadata.prev_record_lsn),
            b"\0" if metadata.ancestor_timeline is None else b"\1" + metadata.ancestor_timeline.id,
            lsn(metadata.ancestor_lsn),
            lsn(metadata.latest_gc_cutoff_lsn),
            lsn(metadata.initdb_lsn),
            metadata.pg_version.to_bytes(4),
        )
    )
    header = _LEGACY_HEADER.pack(google_crc32c.value(body), _LEGACY_HEADER.size + len(body), _LEGACY_VERSION)
    return (header + body).ljust(_LEGACY_SIZE, b"\0")
