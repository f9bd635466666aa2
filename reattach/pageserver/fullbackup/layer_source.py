"""Reading a timeline's values and pages from its image layers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from itertools import pairwise
from typing import Protocol

from reattach.api.key import Key, KeyRange
from reattach.api.layer_name import LayerName
from reattach.api.lsn import Lsn
from reattach.api.shard import ShardIdentity
from reattach.pageserver.blocking import run_blocking
from reattach.pageserver.fullbackup.read_ahead import read_ahead
from reattach.pageserver.fullbackup.source import BackupError, MissingKey
from reattach.pageserver.layers.blobs import Buffer
from reattach.pageserver.layers.errors import LayerCorrupted
from reattach.pageserver.layers.image_layer_reader import BULK_BYTES, ImageLayerReader


class LayeredTimeline(Protocol):
    """A timeline whose layers can be read."""

    @property
    def shard(self) -> ShardIdentity: ...

    @property
    def pg_version(self) -> int: ...

    @property
    def last_record_lsn(self) -> Lsn: ...

    def layer_names(self) -> Sequence[LayerName]:
        """The image layers of which the timeline consists."""
        ...

    def open_layer(self, name: LayerName) -> AbstractAsyncContextManager[ImageLayerReader]:
        """A layer to read from, downloaded if need be and kept from eviction meanwhile.

        Raises OSError, LayerCorrupted, or BackupError if it cannot be had.
        """
        ...


class LayerSource:
    """A `PageSource` on image layers, which must not overlap."""

    def __init__(self, timeline: LayeredTimeline) -> None:
        self._timeline = timeline
        self._layers = sorted(timeline.layer_names())
        self._starts = [layer.key_range.start for layer in self._layers]
        for layer, following in pairwise(self._layers):
            if layer.key_range.overlaps(following.key_range):
                raise BackupError(f"layers overlap: {layer} and {following}")

    @property
    def shard(self) -> ShardIdentity:
        return self._timeline.shard

    @property
    def pg_version(self) -> int:
        return self._timeline.pg_version

    @property
    def lsn(self) -> Lsn:
        return self._timeline.last_record_lsn

    async def values(self, keys: Sequence[Key]) -> list[bytes | None]:
        by_layer: dict[LayerName, list[Key]] = {}
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
        by_layer: dict[LayerName, list[KeyRange]] = {}
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
    async def _opened(self, layer: LayerName) -> AsyncGenerator[ImageLayerReader]:
        try:
            async with self._timeline.open_layer(layer) as reader:
                yield reader
        except (OSError, LayerCorrupted) as e:
            raise BackupError(f"cannot read layer {layer} of shard {self.shard.index}: {e}") from e

    def _layer_of(self, key: Key) -> LayerName | None:
        at = bisect_right(self._starts, key) - 1
        return self._layers[at] if at >= 0 and self._layers[at].key_range.contains(key) else None

    def _split(self, run: KeyRange) -> Iterator[tuple[LayerName, KeyRange]]:
        """The parts of a run by the layers that cover it. Raises MissingKey where none does."""
        start = run.start
        while start < run.end:
            layer = self._layer_of(start)
            if layer is None:
                raise MissingKey(start, self.shard, self.lsn, "no layer covers it")
            end = min(run.end, layer.key_range.end)
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
