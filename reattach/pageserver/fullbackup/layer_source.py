"""Reading a timeline's values and pages from its image layers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from typing import Generic, Protocol, TypeVar

from reattach.api.key import KEY_MAX, KEY_MIN, Key, KeyRange
from reattach.api.layer_name import LayerName
from reattach.api.lsn import Lsn
from reattach.api.shard import ShardIdentity
from reattach.pageserver.blocking import run_blocking
from reattach.pageserver.fullbackup.read_ahead import read_ahead
from reattach.pageserver.fullbackup.source import BackupError, MissingKey
from reattach.pageserver.layers.blobs import Buffer
from reattach.pageserver.layers.errors import LayerCorrupted
from reattach.pageserver.layers.image_layer_reader import BULK_BYTES, ImageLayerReader
from reattach.pageserver.layers.timeline_metadata import TimelineMetadata
from reattach.pageserver.remote.storage import ObjectNotFound
from reattach.pageserver.scope import ScopeClosed

_ALL_KEYS = KeyRange(KEY_MIN, KEY_MAX)


class Layer(Protocol):
    """A layer of a layer map."""

    @property
    def name(self) -> LayerName: ...


AnyLayer = TypeVar("AnyLayer", bound=Layer)


class LayeredTimeline(Protocol[AnyLayer]):
    """A timeline whose layers can be read."""

    @property
    def shard(self) -> ShardIdentity: ...

    @property
    def metadata(self) -> TimelineMetadata: ...

    def layers_for(self, keys: KeyRange, lsn: Lsn | None = None) -> list[AnyLayer]:
        """The layers that share keys with the range, not newer than `lsn`."""
        ...

    async def open_layer(self, layer: AnyLayer) -> ImageLayerReader:
        """A reader of the layer, which the caller closes. Downloads the file if it is not on the disk.

        Raises OSError, LayerCorrupted, ObjectNotFound and ScopeClosed.
        """
        ...


class LayerSource(Generic[AnyLayer]):
    """A `PageSource` on image layers, which must not overlap."""

    def __init__(self, timeline: LayeredTimeline[AnyLayer], lsn: Lsn) -> None:
        self._timeline = timeline
        self.shard = timeline.shard
        self.pg_version = timeline.metadata.pg_version
        self.lsn = lsn
        self._layers = sorted(timeline.layers_for(_ALL_KEYS, lsn), key=lambda layer: layer.name)
        self._starts = [layer.name.key_range.start for layer in self._layers]
        for layer, following in pairwise(self._layers):
            if layer.name.key_range.overlaps(following.name.key_range):
                raise BackupError(f"layers overlap: {layer.name} and {following.name}")

    async def values(self, keys: Sequence[Key]) -> list[bytes | None]:
        by_layer: dict[AnyLayer, list[Key]] = {}
        found: dict[Key, bytes | None] = {}
        for key in keys:
            layer = self._layer_of(key)
            if layer is not None:
                by_layer.setdefault(layer, []).append(key)
        for layer, wanted in by_layer.items():
            async with self._opened(layer) as reader:
                found.update(await run_blocking(_get_all, reader, wanted))
        return [found.get(key) for key in keys]

    async def pages(self, runs: Sequence[KeyRange]) -> AsyncGenerator[memoryview]:
        async with aclosing(read_ahead(self._pages(runs))) as buffers:
            async for buffer in buffers:
                yield buffer

    async def _pages(self, runs: Sequence[KeyRange]) -> AsyncGenerator[memoryview]:
        by_layer: dict[AnyLayer, list[KeyRange]] = {}
        for run in runs:
            for layer, part in self._split(run):
                by_layer.setdefault(layer, []).append(part)
        for layer, parts in by_layer.items():
            async with self._opened(layer) as reader:
                buffers = self._read(reader, parts)
                while (buffer := await run_blocking(next, buffers, None)) is not None:
                    yield buffer

    def _read(self, reader: ImageLayerReader, runs: Sequence[KeyRange]) -> Iterator[memoryview]:
        """The pages of runs that lie in one layer. Small runs share a buffer."""
        small: list[Buffer] = []
        size = 0
        for run in runs:
            block = run.start.field6
            for batch in reader.pages(run):
                blocks = batch.blocks
                if int(blocks[0]) != block or int(blocks[-1]) != block + len(blocks) - 1:
                    break
                block += len(blocks)
                small.append(batch.pages)
                size += len(batch.pages)
                if size >= BULK_BYTES:
                    yield _joined(small)
                    small, size = [], 0
            if block != run.end.field6:
                missing = _first_missing(reader, KeyRange(run.start._replace(field6=block), run.end))
                raise MissingKey(missing, self.shard, self.lsn, f"layer {reader.name}")
        if small:
            yield _joined(small)

    @asynccontextmanager
    async def _opened(self, layer: AnyLayer) -> AsyncGenerator[ImageLayerReader]:
        try:
            with await self._timeline.open_layer(layer) as reader:
                yield reader
        except (OSError, LayerCorrupted, ObjectNotFound, ScopeClosed) as e:
            raise BackupError(f"cannot read layer {layer.name} of shard {self.shard.index}") from e

    def _layer_of(self, key: Key) -> AnyLayer | None:
        at = bisect_right(self._starts, key) - 1
        return self._layers[at] if at >= 0 and self._layers[at].name.key_range.contains(key) else None

    def _split(self, run: KeyRange) -> Iterator[tuple[AnyLayer, KeyRange]]:
        """The parts of a run by the layers that cover it. Raises MissingKey where none does."""
        start = run.start
        while start < run.end:
            layer = self._layer_of(start)
            if layer is None:
                raise MissingKey(start, self.shard, self.lsn, "no layer covers it")
            end = min(run.end, layer.name.key_range.end)
            yield layer, KeyRange(start, end)
            start = end


def _get_all(reader: ImageLayerReader, keys: Sequence[Key]) -> dict[Key, bytes | None]:
    return {key: reader.get(key) for key in keys}


def _joined(buffers: list[Buffer]) -> memoryview:
    return memoryview(buffers[0] if len(buffers) == 1 else b"".join(buffers))


def _first_missing(reader: ImageLayerReader, run: KeyRange) -> Key:
    """The first key of a run that the layer does not have; there must be one."""
    present = {int(block) for batch in reader.pages(run) for block in batch.blocks}
    block = next(block for block in range(run.start.field6, run.end.field6) if block not in present)
    return run.start._replace(field6=block)
