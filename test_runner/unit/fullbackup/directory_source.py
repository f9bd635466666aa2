"""A page source that reads from a data directory, as if it had been imported."""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from reattach.api.key import (
    BLCKSZ,
    CONTROLFILE_KEY,
    DBDIR_KEY,
    DEFAULTTABLESPACE_OID,
    GLOBALTABLESPACE_OID,
    RELSEG_BLOCKS,
    Key,
    KeyRange,
    RelTag,
    SlruKind,
    reldir_key,
    relmap_key,
    slru_dir_key,
    slru_segment_size_key,
)
from reattach.api.lsn import Lsn
from reattach.api.pgdata_path import database_directory, parse_relation_file, relation_path
from reattach.api.shard import ShardIdentity
from reattach.pageserver.fullbackup.source import MissingKey

BUFFER_BLOCKS = 64


class DirectorySource:
    """What shard `shard` of a tenant would serve after importing the data directory `pgdata`."""

    def __init__(self, pgdata: Path, shard: ShardIdentity | None = None) -> None:
        self.shard = shard or ShardIdentity()
        self.pgdata = pgdata
        self.pg_version = int((pgdata / "PG_VERSION").read_text())
        control_file = (pgdata / "global/pg_control").read_bytes()
        self.lsn = Lsn(struct.unpack_from("<Q", control_file, 32)[0])
        self.store = _single_values(pgdata)
        self.store[CONTROLFILE_KEY] = control_file
        self.reads: list[KeyRange] = []

    async def values(self, keys: Sequence[Key]) -> list[bytes | None]:
        assert sorted(keys) == list(keys)
        return [self.store.get(key) for key in keys]

    async def pages(self, runs: Sequence[KeyRange]) -> AsyncGenerator[memoryview]:
        assert sorted(runs) == list(runs)
        waiting = bytearray()
        for run in runs:
            self.reads.append(run)
            assert not self.shard.is_disposable(run.start)
            waiting += self._read(run)
            while len(waiting) >= BUFFER_BLOCKS * BLCKSZ:
                yield memoryview(bytes(waiting[: BUFFER_BLOCKS * BLCKSZ]))
                del waiting[: BUFFER_BLOCKS * BLCKSZ]
        if waiting:
            yield memoryview(bytes(waiting))

    def _read(self, run: KeyRange) -> bytes:
        key, blocks = run.start, run.end.field6 - run.start.field6
        if key.field1 == 1:
            path, first = f"{SlruKind(key.field2).directory}/{key.field4:04X}", key.field6
        else:
            segno, first = divmod(key.field6, RELSEG_BLOCKS)
            path = relation_path(RelTag(*key[1:5]), segno)
        with (self.pgdata / path).open("rb") as file:
            file.seek(first * BLCKSZ)
            content = file.read(blocks * BLCKSZ)
        if len(content) != blocks * BLCKSZ:
            raise MissingKey(key.advance(len(content) // BLCKSZ), self.shard, self.lsn)
        return content


def _single_values(pgdata: Path) -> dict[Key, bytes]:
    store: dict[Key, bytes] = {}
    databases = [(DEFAULTTABLESPACE_OID, int(path.name)) for path in (pgdata / "base").iterdir()]
    databases.append((GLOBALTABLESPACE_OID, 0))
    store[DBDIR_KEY] = struct.pack(">Q", len(databases)) + b"".join(
        struct.pack(">II?", spcnode, dbnode, True) for spcnode, dbnode in databases
    )
    for spcnode, dbnode in databases:
        directory = pgdata / database_directory(spcnode, dbnode)
        store[relmap_key(spcnode, dbnode)] = (directory / "pg_filenode.map").read_bytes()
        sizes: dict[RelTag, int] = {}
        for path in directory.iterdir():
            if file := parse_relation_file(path.name):
                rel = RelTag(spcnode, dbnode, file.relnode, file.forknum)
                sizes[rel] = sizes.get(rel, 0) + path.stat().st_size // BLCKSZ
        store[reldir_key(spcnode, dbnode)] = struct.pack(">Q", len(sizes)) + b"".join(
            struct.pack(">IB", rel.relnode, rel.forknum) for rel in sizes
        )
        store |= {rel.size_key(): struct.pack("<Q", blocks) for rel, blocks in sizes.items()}
    for kind in SlruKind:
        segments = {int(path.name, 16): path.stat().st_size for path in (pgdata / kind.directory).iterdir()}
        store[slru_dir_key(kind)] = struct.pack(f">Q{len(segments)}I", len(segments), *segments)
        for segno, size in segments.items():
            store[slru_segment_size_key(kind, segno)] = struct.pack("<I", size // BLCKSZ)
    return store
