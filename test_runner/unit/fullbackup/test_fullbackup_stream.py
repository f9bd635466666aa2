"""A backup's tar: what is in it, for one shard and for many, and that their union is the data directory."""

from __future__ import annotations

import asyncio
import io
import struct
import subprocess
import tarfile
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path

import pytest

from reattach.api.key import BLCKSZ, DBDIR_KEY, GLOBALTABLESPACE_OID, KeyRange, RelTag, relmap_key
from reattach.api.shard import ShardIdentity
from reattach.fixtures.backup.restore import Restore, ShardsDisagree
from reattach.fixtures.backup.tar import TarReader
from reattach.pageserver.fullbackup.source import BackupError, PageSource
from reattach.pageserver.fullbackup.stream import Backup, open_backup
from test_runner.unit.fullbackup.directory_source import DirectorySource
from test_runner.unit.fullbackup.pgdata import control_file, make_pgdata


def take(source: PageSource) -> bytes:
    async def run() -> bytes:
        backup = await open_backup(source)
        tar = b"".join([bytes(buffer) async for buffer in backup.stream()])
        assert len(tar) == backup.size
        return tar

    return asyncio.run(run())


def members(tar: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {member.name: member for member in archive}


@pytest.fixture
def pgdata(tmp_path: Path) -> Path:
    return make_pgdata(tmp_path / "source")


def test_relation_of_several_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reattach.pageserver.fullbackup.plan.RELSEG_BLOCKS", 16)
    monkeypatch.setattr("test_runner.unit.fullbackup.directory_source.RELSEG_BLOCKS", 16)
    relations = {"base/5/20000": 16, "base/5/20000.1": 16, "base/5/20000.2": 3, "base/5/20001": 16}
    pgdata = make_pgdata(tmp_path / "source", relations=relations)
    (pgdata / "base/5/16384").unlink()
    found = members(take(DirectorySource(pgdata)))
    sizes = {path: m.size // BLCKSZ for path, m in found.items() if path.startswith("base/5/2000")}
    assert sizes == relations


def test_a_shards_tar_has_only_its_pages(pgdata: Path) -> None:
    """The holes are the other shards'; what only the first shard keeps is in no other's."""
    source = DirectorySource(pgdata, ShardIdentity(1, 4, 4))
    tar = take(source)
    found = members(tar)
    assert found["base/5/16384"].size == 40 * BLCKSZ
    assert len(tar) < 40 * BLCKSZ
    assert not [path for path in found if path.startswith("pg_xact/") or path.endswith("_init")]
    relations = [path for path in found if path.rpartition("/")[2][0].isdigit() and not found[path].isdir()]
    assert all(found[path].sparse or found[path].size for path in relations)
    everything = members(take(DirectorySource(pgdata, ShardIdentity(0, 4, 4))))
    assert set(relations) < everything.keys()


def test_restore_notices_a_shard_that_is_not_there(pgdata: Path, tmp_path: Path) -> None:
    restore = Restore(tmp_path / "copy")
    for number in (0, 1, 3):
        restore.add(TarReader([take(DirectorySource(pgdata, ShardIdentity(number, 4, 2)))]), str(number))
    with pytest.raises(ShardsDisagree, match=r"no shard sent block \d+ of base/"):
        restore.finish()


def test_restore_notices_shards_with_different_bytes(pgdata: Path, tmp_path: Path) -> None:
    restore = Restore(tmp_path / "copy")
    restore.add(TarReader([take(DirectorySource(pgdata))]), "0000")
    (pgdata / "base/5/16384").write_bytes(b"x" * 40 * BLCKSZ)
    with pytest.raises(ShardsDisagree, match="different bytes for block 0 of base/5/16384"):
        restore.add(TarReader([take(DirectorySource(pgdata))]), "0102")


def test_restore_takes_the_transfer_to_its_end(pgdata: Path, tmp_path: Path) -> None:
    """What goes wrong after the last byte of the tar is an error too."""

    def transfer() -> Iterator[bytes]:
        yield take(DirectorySource(pgdata))
        raise ConnectionError("reset by peer")

    with pytest.raises(ConnectionError):
        Restore(tmp_path / "copy").add(TarReader(transfer()), "0000")


def test_database_without_a_relation_map(pgdata: Path) -> None:
    source = DirectorySource(pgdata)
    source.store[DBDIR_KEY] = source.store[DBDIR_KEY].replace(
        struct.pack(">II?", GLOBALTABLESPACE_OID, 0, True),
        struct.pack(">II?", GLOBALTABLESPACE_OID, 0, False),
    )
    del source.store[relmap_key(GLOBALTABLESPACE_OID, 0)]
    assert "global/pg_filenode.map" not in members(take(source))


def test_missing_size_is_named(pgdata: Path) -> None:
    source = DirectorySource(pgdata)
    key = RelTag(1663, 5, 16384, 0).size_key()
    del source.store[key]
    with pytest.raises(BackupError, match=f"could not find data for key {key} .shard 0000"):
        take(source)


def test_missing_page_ends_the_stream(pgdata: Path) -> None:
    source = DirectorySource(pgdata)
    (pgdata / "base/5/16384").write_bytes(bytes(39 * BLCKSZ))
    with pytest.raises(BackupError, match=f"key {RelTag(1663, 5, 16384, 0).block(39)} "):
        take(source)


def test_pages_that_end_early_end_the_stream(pgdata: Path) -> None:
    class Short(DirectorySource):
        async def pages(self, runs: Sequence[KeyRange]) -> AsyncGenerator[memoryview]:
            async for buffer in super().pages(runs[:-1]):
                yield buffer

    with pytest.raises(BackupError, match="pages ended before its files did"):
        take(Short(pgdata))


def test_gnu_tar_knows_the_holes(pgdata: Path, tmp_path: Path) -> None:
    """A shard's tar extracted by the tool gives files of the right size, whose other pages are zeros."""
    for number in range(3):
        source = DirectorySource(pgdata, ShardIdentity(number, 3, 2))
        directory = tmp_path / str(number)
        directory.mkdir()
        subprocess.run(["tar", "-x", "-C", directory], input=take(source), check=True)
        copy = (directory / "base/5/16384").read_bytes()
        original = (pgdata / "base/5/16384").read_bytes()
        assert len(copy) == len(original)
        for block in range(40):
            page = slice(block * BLCKSZ, (block + 1) * BLCKSZ)
            own = source.shard.is_local(RelTag(1663, 5, 16384, 0).block(block))
            assert copy[page] == (original[page] if own else bytes(BLCKSZ))


@pytest.mark.parametrize("raw", [b"", bytes(7), struct.pack(">Q", 2) + bytes(9), struct.pack(">Q", 1 << 60)])
def test_malformed_directory_is_refused(pgdata: Path, raw: bytes) -> None:
    source = DirectorySource(pgdata)
    source.store[DBDIR_KEY] = raw
    with pytest.raises(BackupError, match="database directory"):
        take(source)


def test_user_tablespace_is_refused(pgdata: Path) -> None:
    source = DirectorySource(pgdata)
    source.store[DBDIR_KEY] = struct.pack(">QII?", 1, 16390, 5, True)
    with pytest.raises(BackupError, match="user tablespace 16390"):
        take(source)


def test_large_wal_segments_get_room(pgdata: Path) -> None:
    """A server with segments of 1 GiB refuses to start with the usual limits of its WAL's size."""
    (pgdata / "global/pg_control").write_bytes(control_file(segment_size=1 << 30, checkpoint=(1 << 30) + 40))
    tar = take(DirectorySource(pgdata))
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        file = archive.extractfile("postgresql.conf")
        assert file is not None
        assert file.read().decode().split("\n") == ["min_wal_size = 2048MB", "max_wal_size = 2048MB", ""]


def test_a_stopped_standby_comes_back_without_wal(pgdata: Path) -> None:
    """No server could start on it without WAL that it has not replayed. Its files are there all the same."""
    (pgdata / "global/pg_control").write_bytes(control_file(state=2))
    found = members(take(DirectorySource(pgdata)))
    assert found["base/5/16384"].size == 40 * BLCKSZ
    assert not [path for path in found if path.startswith("pg_wal/0")]


def test_buffers_are_few(pgdata: Path) -> None:
    """Small files share a buffer: what is sent does not cost an await per file."""

    async def count(backup: Backup) -> int:
        return len([None async for _ in backup.stream()])

    async def run() -> int:
        return await count(await open_backup(DirectorySource(pgdata)))

    assert asyncio.run(run()) <= 8
