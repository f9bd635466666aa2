"""Which databases, relations and SLRU segments a timeline has, read from its directory keys."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from reattach.api.key import (
    CONTROLFILE_KEY,
    DBDIR_KEY,
    DEFAULTTABLESPACE_OID,
    GLOBALTABLESPACE_OID,
    Key,
    RelTag,
    SlruKind,
    reldir_key,
    relmap_key,
    slru_dir_key,
    slru_segment_size_key,
)
from reattach.pageserver.fullbackup.source import BackupError, MissingKey, PageSource

_COUNT = struct.Struct(">Q")
_DATABASE = struct.Struct(">II?")
_RELATION = struct.Struct(">IB")
_SEGMENT = struct.Struct(">I")
_SIZE = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a data directory consists of. Sizes in blocks; everything in key order."""

    pg_version: int
    control_file: bytes
    relmaps: dict[tuple[int, int], bytes | None]
    """By database `(spcnode, dbnode)`, None for one without a map."""
    relations: dict[RelTag, int]
    slru_segments: dict[tuple[SlruKind, int], int]
    """By kind and segment number. Empty on all shards but the first."""


async def read_catalog(source: PageSource) -> Catalog:
    """Reads the directories of a timeline. Raises BackupError."""
    databases = parse_dbdir(await _value(source, DBDIR_KEY))
    for spcnode, dbnode, _ in databases:
        if spcnode not in (DEFAULTTABLESPACE_OID, GLOBALTABLESPACE_OID):
            raise BackupError(f"database {dbnode} lies in the user tablespace {spcnode}")
    mapped = [(spcnode, dbnode) for spcnode, dbnode, has_map in databases if has_map]
    relmaps: dict[tuple[int, int], bytes | None] = {(spc, db): None for spc, db, _ in databases}
    relmaps.update(zip(mapped, await _values(source, [relmap_key(*db) for db in mapped]), strict=True))

    reldirs = await _values(source, [reldir_key(*db) for db in relmaps])
    relations = [
        RelTag(*database, relnode, forknum)
        for database, reldir in zip(relmaps, reldirs, strict=True)
        for relnode, forknum in parse_reldir(reldir)
    ]
    sizes = await _values(source, [rel.size_key() for rel in relations])

    segments: list[tuple[SlruKind, int]] = []
    if source.shard.number == 0:
        slru_dirs = await _values(source, [slru_dir_key(kind) for kind in SlruKind])
        segments = [
            (kind, segno)
            for kind, directory in zip(SlruKind, slru_dirs, strict=True)
            for segno in parse_slru_dir(directory)
        ]
    segment_sizes = await _values(source, [slru_segment_size_key(*segment) for segment in segments])
    return Catalog(
        pg_version=source.pg_version,
        control_file=await _value(source, CONTROLFILE_KEY),
        relmaps=relmaps,
        relations=dict(zip(relations, map(parse_size, sizes), strict=True)),
        slru_segments=dict(zip(segments, map(parse_size, segment_sizes), strict=True)),
    )


def parse_dbdir(raw: bytes) -> list[tuple[int, int, bool]]:
    """Databases `(spcnode, dbnode, has a relation map)`, sorted. Raises BackupError."""
    return [(spc, db, bool(has_map)) for spc, db, has_map in _parse_directory(raw, _DATABASE, "database")]


def parse_reldir(raw: bytes) -> list[tuple[int, int]]:
    """Relation forks `(relnode, forknum)` of a database, sorted. Raises BackupError."""
    return [(relnode, forknum) for relnode, forknum in _parse_directory(raw, _RELATION, "relation")]


def parse_slru_dir(raw: bytes) -> list[int]:
    """Segment numbers of an SLRU, sorted. Raises BackupError."""
    return [segno for (segno,) in _parse_directory(raw, _SEGMENT, "SLRU")]


def parse_size(raw: bytes) -> int:
    """The size in blocks of a relation fork (8 bytes) or an SLRU segment (4). Raises BackupError."""
    if len(raw) < _SIZE.size:
        raise BackupError(f"a size has at least {_SIZE.size} bytes, not {len(raw)}")
    blocks: int = _SIZE.unpack_from(raw)[0]
    return blocks


def _parse_directory(raw: bytes, entry: struct.Struct, what: str) -> list[tuple[int, ...]]:
    count = _COUNT.unpack_from(raw)[0] if len(raw) >= _COUNT.size else -1
    if len(raw) != _COUNT.size + count * entry.size:
        raise BackupError(f"a {what} directory of {count} entries cannot have {len(raw)} bytes")
    return sorted(entry.iter_unpack(raw[_COUNT.size :]))


async def _value(source: PageSource, key: Key) -> bytes:
    return (await _values(source, [key]))[0]


async def _values(source: PageSource, keys: Sequence[Key]) -> list[bytes]:
    values = await source.values(keys) if keys else []
    found = []
    for key, value in zip(keys, values, strict=True):
        if value is None:
            raise MissingKey(key, source.shard, source.lsn)
        found.append(value)
    return found
