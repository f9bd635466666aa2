"""Pages from image layers: what cannot be read is named, and nothing stays open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

from reattach.api.ids import TenantId, TimelineId
from reattach.api.key import BLCKSZ, KEY_MAX, KeyRange, RelTag
from reattach.api.layer_name import LayerName
from reattach.api.lsn import Lsn
from reattach.api.shard import ShardIdentity
from reattach.pageserver.fullbackup.layer_source import LayerSource
from reattach.pageserver.fullbackup.source import BackupError, MissingKey
from reattach.pageserver.layers.compression import ImageCompression
from reattach.pageserver.layers.image_layer_reader import ImageLayerReader
from reattach.pageserver.layers.image_layer_writer import ImageLayerWriter
from reattach.pageserver.layers.timeline_metadata import TimelineMetadata

TENANT, LSN, BLOCKS = TenantId("11" * 16), Lsn(0x1500028), 1000
REL = RelTag(1663, 5, 30000, 0)

T = TypeVar("T")


class NamedLayer(NamedTuple):
    name: LayerName


class OneLayer:
    """A timeline whose layer has every block of a relation but the last that its name promises."""

    shard = ShardIdentity()
    metadata = TimelineMetadata.of_import(LSN, 16)

    def __init__(self, directory: Path) -> None:
        self.name = LayerName(REL.blocks(0, BLOCKS + 1), LSN)
        self.path = directory / "layer"
        self.layers = [NamedLayer(self.name)]
        disabled = ImageCompression.parse("disabled")
        writer = ImageLayerWriter(self.path, self.name, TENANT, TimelineId("22" * 16), disabled)
        writer.put_pages(REL.block(0), bytes(BLOCKS * BLCKSZ))
        writer.finish()

    def layers_for(self, keys: KeyRange, lsn: Lsn | None = None) -> list[NamedLayer]:
        return self.layers

    async def open_layer(self, layer: NamedLayer, then: Callable[[ImageLayerReader], T]) -> T:
        return then(ImageLayerReader(self.path, layer.name, TENANT))

    async def read_layer(self, layer: NamedLayer, work: Callable[[ImageLayerReader], T]) -> T:
        with ImageLayerReader(self.path, layer.name, TENANT) as reader:
            return work(reader)

    async def read(self, blocks: int) -> AsyncGenerator[int]:
        """Bytes of each buffer."""
        async with aclosing(LayerSource(self, LSN).pages([REL.blocks(0, blocks)])) as pages:
            async for buffer in pages:
                yield len(buffer)

    def size(self, blocks: int) -> int:
        async def whole() -> int:
            return sum([size async for size in self.read(blocks)])

        return asyncio.run(whole())


def test_missing_page_inside_a_layer_is_named(tmp_path: Path) -> None:
    timeline = OneLayer(tmp_path)
    assert timeline.size(BLOCKS) == BLOCKS * BLCKSZ
    with pytest.raises(MissingKey, match=f"key {REL.block(BLOCKS)} .*{timeline.name}"):
        timeline.size(BLOCKS + 1)


def test_overlapping_layers_are_refused(tmp_path: Path) -> None:
    timeline = OneLayer(tmp_path)
    timeline.layers.append(NamedLayer(LayerName(KeyRange(REL.block(1), KEY_MAX), LSN)))
    with pytest.raises(BackupError, match="layers overlap"):
        LayerSource(timeline, LSN)


def test_a_reader_that_leaves_early_leaves_nothing_open(tmp_path: Path) -> None:
    timeline = OneLayer(tmp_path)

    async def leave() -> None:
        async with aclosing(timeline.read(BLOCKS)) as sizes:
            assert 0 < await anext(sizes) < BLOCKS * BLCKSZ
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(leave())
    assert not is_open(timeline.path)


def test_a_layer_that_is_opened_again_is_not_open_twice(tmp_path: Path) -> None:
    """As one whose file was damaged, and was downloaded again."""

    class Damaged(OneLayer):
        async def open_layer(self, layer: NamedLayer, then: Callable[[ImageLayerReader], T]) -> T:
            await super().open_layer(layer, then)
            return await super().open_layer(layer, then)

    timeline = Damaged(tmp_path)
    assert timeline.size(BLOCKS) == BLOCKS * BLCKSZ
    assert not is_open(timeline.path)


def is_open(path: Path) -> bool:
    return path in [fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
