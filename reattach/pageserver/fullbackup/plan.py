"""The data directory that a backup consists of: every directory, file and run of pages, in order."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from reattach.api.key import (
    GLOBALTABLESPACE_OID,
    RELSEG_BLOCKS,
    Fork,
    Key,
    KeyRange,
    RelTag,
    slru_block_key,
)
from reattach.api.pgdata_path import CONTROL_FILE_PATH, RELMAP_NAME, database_directory, relation_path
from reattach.api.shard import ShardIdentity
from reattach.pageserver.fullbackup.catalog import Catalog
from reattach.pageserver.fullbackup.wal import NotStartable, WalSegment, wal_segment_size, wal_segments

log = logging.getLogger(__name__)

_DIRECTORIES = (
    "base",
    "global",
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_logical",
    "pg_logical/mappings",
    "pg_logical/snapshots",
    "pg_multixact",
    "pg_multixact/members",
    "pg_multixact/offsets",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_tblspc",
    "pg_twophase",
    "pg_wal",
    "pg_wal/archive_status",
    "pg_xact",
)
_SINCE_17 = ("pg_wal/summaries",)

_PG_HBA = """\
# TYPE  DATABASE     USER  ADDRESS       METHOD
local   all          all                 trust
host    all          all   127.0.0.1/32  trust
host    all          all   ::1/128       trust
local   replication  all                 trust
host    replication  all   127.0.0.1/32  trust
host    replication  all   ::1/128       trust
"""

_DEFAULT_MIN_WAL_SIZE = 80 << 20
_DEFAULT_MAX_WAL_SIZE = 1 << 30


@dataclass(frozen=True, slots=True)
class Directory:
    path: str


@dataclass(frozen=True, slots=True)
class SmallFile:
    path: str
    content: bytes


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of pages from the timeline.

    `runs` are the blocks `(first, end)` of the file that the shard holds, `first_key` is that of block 0.
    """

    path: str
    blocks: int
    first_key: Key
    runs: tuple[tuple[int, int], ...]

    @property
    def is_whole(self) -> bool:
        return self.runs == ((0, self.blocks),) or not self.blocks

    def key_ranges(self) -> Iterator[KeyRange]:
        for first, end in self.runs:
            yield KeyRange(self.first_key.advance(first), self.first_key.advance(end))


Member: TypeAlias = Directory | SmallFile | PageFile | WalSegment


def data_directory(catalog: Catalog, shard: ShardIdentity) -> list[Member]:
    """The data directory as `shard` knows it, its page files in key order.

    A relation segment is there with its full size, and the pages that the shard holds. The first shard names
    all of them, and what only it keeps (SLRUs, init forks); the others those that they have pages of.
    `global/pg_control` comes last: a directory that was not received whole cannot be started. Of a cluster
    that no server could start on, there is no WAL.
    """
    members: list[Member] = [Directory(path) for path in _DIRECTORIES]
    if catalog.pg_version >= 17:
        members += [Directory(path) for path in _SINCE_17]
    members += _configuration(catalog)
    for (spcnode, dbnode), relmap in catalog.relmaps.items():
        directory = database_directory(spcnode, dbnode)
        if spcnode != GLOBALTABLESPACE_OID:
            members.append(Directory(directory))
            members.append(SmallFile(f"{directory}/PG_VERSION", _version_file(catalog)))
        if relmap is not None:
            members.append(SmallFile(f"{directory}/{RELMAP_NAME}", relmap))
    for rel, blocks in catalog.relations.items():
        if rel.forknum != Fork.INIT or shard.number == 0:
            members += _relation(rel, blocks, shard)
    for (kind, segno), blocks in catalog.slru_segments.items():
        runs = ((0, blocks),) if blocks else ()
        first_key = slru_block_key(kind, segno, 0)
        members.append(PageFile(f"{kind.directory}/{segno:04X}", blocks, first_key, runs))
    try:
        members += wal_segments(catalog.control_file, catalog.pg_version)
    except NotStartable as e:
        log.warning("no server can start on this backup: %s", e)
    members.append(SmallFile(CONTROL_FILE_PATH, catalog.control_file))
    return members


def modification_time(catalog: Catalog) -> int:
    """When the cluster was shut down, in seconds since 1970."""
    seconds: int = struct.unpack_from("<q", catalog.control_file, 24)[0]
    return max(0, seconds)


def _relation(rel: RelTag, blocks: int, shard: ShardIdentity) -> Iterator[PageFile]:
    for segno, start in enumerate(range(0, blocks or 1, RELSEG_BLOCKS)):
        end = min(start + RELSEG_BLOCKS, blocks)
        runs = tuple((f - start, e - start) for f, e in shard.local_runs(rel.blocks(start, end)))
        if runs or shard.number == 0:
            yield PageFile(relation_path(rel, segno), end - start, rel.block(start), runs)


def _configuration(catalog: Catalog) -> Iterator[SmallFile]:
    yield SmallFile("PG_VERSION", _version_file(catalog))
    yield SmallFile("pg_hba.conf", _PG_HBA.encode())
    yield SmallFile("pg_ident.conf", b"")
    yield SmallFile("postgresql.auto.conf", b"")
    yield SmallFile("postgresql.conf", _settings(wal_segment_size(catalog.control_file)).encode())


def _settings(segment_size: int) -> str:
    """A server refuses to start if its WAL limits are below two segments."""
    lines = []
    for name, default in (("min_wal_size", _DEFAULT_MIN_WAL_SIZE), ("max_wal_size", _DEFAULT_MAX_WAL_SIZE)):
        if 2 * segment_size > default:
            lines.append(f"{name} = {2 * segment_size >> 20}MB\n")
    return "".join(lines)


def _version_file(catalog: Catalog) -> bytes:
    return f"{catalog.pg_version}\n".encode()
