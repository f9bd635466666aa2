"""Backups from image layers: what they hold is what was written, and what is broken is named."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from reattach.api.key import BLCKSZ, KEY_MAX, KeyRange, RelTag
from reattach.api.layer_name import LayerName
from reattach.api.shard import ShardIdentity
from reattach.fixtures.backup.restore import Restore
from reattach.fixtures.backup.source_files import LocalFiles
from reattach.fixtures.backup.tar import TarReader
from reattach.fixtures.compare import DataDiffers, Placement, assert_same
from reattach.pageserver.fullbackup.layer_source import LayerSource
from reattach.pageserver.fullbackup.source import BackupError, MissingKey
from reattach.pageserver.fullbackup.stream import open_backup
from test_runner.unit.fullbackup.directory_source import DirectorySource
from test_runner.unit.fullbackup.layered_timeline import CountingReader, LayeredDirectory, import_into_layers
from test_runner.unit.fullbackup.pgdata import make_pgdata

BIG = RelTag(1663, 5, 30000, 0)
RELATIONS = {"base/5/30000": 1100, "base/5/30001": 3}


@pytest.fixture
def pgdata(tmp_path: Path) -> Path:
    return make_pgdata(tmp_path / "source", relations=RELATIONS)


def imported(
    pgdata: Path, shard: ShardIdentity | None = None, *, compression: str = "zstd(1)"
) -> LayeredDirectory:
    directory = pgdata.parent / f"layers-{shard.number if shard else 0}"
    return asyncio.run(import_into_layers(DirectorySource(pgdata, shard), directory, compression=compression))


def take(timeline: LayeredDirectory) -> list[bytes]:
    async def run() -> list[bytes]:
        backup = await open_backup(LayerSource(timeline, timeline.metadata.disk_consistent_lsn))
        return [bytes(buffer) async for buffer in backup.stream()]

    return asyncio.run(run())


def nowhere(_: object) -> Placement:
    return Placement("0000", None)


@pytest.mark.parametrize("compression", ["zstd(1)", "disabled"])
def test_i8_layers_give_the_source_back(pgdata: Path, compression: str) -> None:
    timeline = imported(pgdata, compression=compression)
    restore = Restore(pgdata.parent / "copy")
    restore.add(TarReader(take(timeline)), "0000")
    restore.finish()
    assert_same(LocalFiles(pgdata), LocalFiles(pgdata.parent / "copy"), nowhere)
    assert CountingReader.open_now == 0


def test_i8_shards_layers_give_the_source_back(pgdata: Path) -> None:
    restore = Restore(pgdata.parent / "copy")
    for number in range(3):
        shard = ShardIdentity(number, 3, 7)
        restore.add(TarReader(take(imported(pgdata, shard))), str(shard.index))
    restore.finish()
    assert_same(LocalFiles(pgdata), LocalFiles(pgdata.parent / "copy"), nowhere)


def test_layers_are_read_in_order_and_once_for_their_pages(pgdata: Path) -> None:
    timeline = imported(pgdata)
    source = LayerSource(timeline, timeline.metadata.disk_consistent_lsn)
    run = BIG.blocks(0, 1100)

    async def pages() -> list[memoryview]:
        return [buffer async for buffer in source.pages([run])]

    buffers = asyncio.run(pages())
    assert sum(map(len, buffers)) == 1100 * BLCKSZ
    assert b"".join(buffers) == (pgdata / "base/5/30000").read_bytes()
    assert timeline.opened == sorted(set(timeline.opened))
    assert max(map(len, buffers)) <= 8 << 20


def test_flipped_byte_of_a_raw_page_is_seen_by_the_comparison(pgdata: Path) -> None:
    """I8: a page that was not compressed has no checksum of its own."""
    timeline = imported(pgdata, compression="disabled")
    content = (pgdata / "base/5/30000").read_bytes()
    page = content[700 * BLCKSZ : 701 * BLCKSZ]
    layer, position = next(
        (layer, at) for layer in timeline.names if (at := timeline.path(layer).read_bytes().find(page)) >= 0
    )
    with timeline.path(layer).open("r+b") as file:
        file.seek(position + 4097)
        file.write(bytes([page[4097] ^ 0x10]))
    restore = Restore(pgdata.parent / "copy")
    restore.add(TarReader(take(timeline)), "0000")
    with pytest.raises(DataDiffers) as failure:
        assert_same(
            LocalFiles(pgdata), LocalFiles(pgdata.parent / "copy"), lambda _: Placement("0000", str(layer))
        )
    text = str(failure.value)
    assert (
        f"base/5/30000: block 700 differs first at byte 4097 (byte {700 * BLCKSZ + 4097} of the file)" in text
    )
    assert f"the bucket has 0x{page[4097]:02X}, the import 0x{page[4097] ^ 0x10:02X}; 1 block differs" in text
    assert f"key {BIG.block(700)}, shard 0000, layer {layer}" in text


def test_flipped_byte_of_a_compressed_page_names_the_layer(pgdata: Path) -> None:
    timeline = imported(pgdata)
    layer = _layer_of(timeline, BIG.blocks(0, 1100))
    size = timeline.path(layer).stat().st_size
    with timeline.path(layer).open("r+b") as file:
        file.seek(BLCKSZ + 4000)
        byte = file.read(1)[0]
        file.seek(BLCKSZ + 4000)
        file.write(bytes([byte ^ 1]))
    assert timeline.path(layer).stat().st_size == size
    with pytest.raises(BackupError, match=str(layer)):
        take(timeline)


def test_missing_layer_file_is_named(pgdata: Path) -> None:
    timeline = imported(pgdata)
    timeline.path(timeline.names[2]).unlink()
    with pytest.raises(BackupError, match=f"cannot read layer {timeline.names[2]} of shard 0000"):
        take(timeline)


def test_swapped_layers_are_named(pgdata: Path) -> None:
    timeline = imported(pgdata)
    one, other = (timeline.path(timeline.names[n]) for n in (1, 2))
    aside = one.with_suffix(".aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    with pytest.raises(BackupError, match=str(timeline.names[1])) as failure:
        take(timeline)
    assert f"holds {timeline.names[2]}" in str(failure.value.__cause__)


def test_layer_of_another_shard_misses_keys(pgdata: Path) -> None:
    timeline, other = (imported(pgdata, ShardIdentity(number, 2, 7)) for number in range(2))
    timeline.names = other.names
    timeline.directory = other.directory
    with pytest.raises(MissingKey, match="shard 0002"):
        take(timeline)


def test_hole_between_layers_is_named(pgdata: Path) -> None:
    timeline = imported(pgdata)
    layer = _layer_of(timeline, BIG.blocks(0, 1100))
    timeline.names.remove(layer)
    with pytest.raises(MissingKey, match=r"could not find data for key 000000067F.*no layer covers it"):
        take(timeline)


def test_missing_page_inside_a_layer_is_named(pgdata: Path) -> None:
    source = DirectorySource(pgdata)
    source.store[BIG.size_key()] = (1099).to_bytes(8, "little")
    timeline = asyncio.run(import_into_layers(source, pgdata.parent / "layers", layers=1))

    async def read() -> None:
        async for _ in LayerSource(timeline, timeline.metadata.disk_consistent_lsn).pages(
            [BIG.blocks(0, 1100)]
        ):
            pass

    with pytest.raises(MissingKey, match=f"key {BIG.block(1099)} .*{timeline.names[0]}"):
        asyncio.run(read())


def test_overlapping_layers_are_refused(pgdata: Path) -> None:
    timeline = imported(pgdata)
    first = timeline.names[0]
    timeline.names.append(LayerName(KeyRange(first.key_range.start.next(), KEY_MAX), first.lsn))
    with pytest.raises(BackupError, match="layers overlap"):
        take(timeline)


def test_a_reader_that_leaves_early_leaves_nothing_open(pgdata: Path) -> None:
    timeline = imported(pgdata)

    async def run() -> None:
        backup = await open_backup(LayerSource(timeline, timeline.metadata.disk_consistent_lsn))
        stream = backup.stream()
        await anext(stream)
        await stream.aclose()
        assert CountingReader.open_now == 0
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())
    assert not [fd for fd in _open_files() if fd.startswith(str(timeline.directory))]


def _open_files() -> list[str]:
    folder = Path("/proc/self/fd")
    return [str(fd.readlink()) for fd in folder.iterdir() if fd.is_symlink()]


def _layer_of(timeline: LayeredDirectory, keys: KeyRange) -> LayerName:
    return next(name for name in timeline.names if name.key_range.contains(keys.start.advance(500)))
