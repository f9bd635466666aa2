"""Reading a timeline's values and pages from its image layers."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from itertools import pairwise
from typing import Generic, Protocol, TypeVar

from reattach.api.key import KEY_MAX, KEY_MIN, Key, KeyRange
from reattach.api.layer_name import LayerName
from reattach.api.lsn import Lsn
from reattach.api.shard import ShardIdentity
from reattach.pageserver.blocking import run_blocking
from reattach.pageserver.fullbackup.in_order import in_order
from reattach.pageserver.fullbackup.source import BackupError, MissingKey
from reattach.pageserver.layers.errors import LayerCorrupted
from reattach.pageserver.layers.image_layer_reader import ImageLayerReader, PageBatch
from reattach.pageserver.layers.timeline_metadata import TimelineMetadata
from reattach.pageserver.remote.storage import ObjectNotFound
from reattach.pageserver.scope import ScopeClosed

_ALL_KEYS = KeyRange(KEY_MIN, KEY_MAX)

_BATCH_BLOCKS = 256
"""Pages that are read at a time: 2 MiB."""

_AHEAD = 3
"""Batches that are being read or wait to be sent, so memory for about twice as many."""


class Layer(Protocol):
    """A layer of a layer map."""

    @property
    def name(self) -> LayerName: ...


AnyLayer = TypeVar("AnyLayer", bound=Layer)
T = TypeVar("T")


class LayeredTimeline(Protocol[AnyLayer]):
    """A timeline whose layers can be read."""

    @property
    def shard(self) -> ShardIdentity: ...

    @property
    def metadata(self) -> TimelineMetadata: ...

    def layers_for(self, keys: KeyRange, lsn: Lsn | None = None) -> list[AnyLayer]:
        """The layers that share keys with the range, not newer than `lsn`."""
        ...

    async def open_layer(self, layer: AnyLayer, then: Callable[[ImageLayerReader], T]) -> T:
        """What `then` makes of a reader of the layer, which it has to close, in the thread that opens it.

        Downloads the file if it is not on the disk. Raises OSError, LayerCorrupted, ObjectNotFound and
        ScopeClosed.
        """
        ...

    async def read_layer(self, layer: AnyLayer, work: Callable[[ImageLayerReader], T]) -> T:
        """What `work` makes of a reader of the layer. As `open_layer`."""
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
        for key in keys:
            if (layer := self._layer_of(key)) is not None:
                by_layer.setdefault(layer, []).append(key)
        found: dict[Key, bytes] = {}
        async with aclosing(in_order(by_layer.items(), self._find, _AHEAD)) as results:
            async for values in results:
                found.update(values)
        return [found.get(key) for key in keys]

    async def _find(self, wanted: tuple[AnyLayer, list[Key]]) -> dict[Key, bytes]:
        layer, keys = wanted
        with self._naming(layer.name):
            return await self._timeline.read_layer(layer, lambda reader: reader.find(keys))

    async def pages(self, runs: Sequence[KeyRange]) -> AsyncGenerator[memoryview]:
        unread: set[_InTurn[AnyLayer]] = set()
        try:
            async with aclosing(in_order(self._batches(runs, unread), self._read, _AHEAD)) as buffers:
                async for buffer in buffers:
                    yield buffer
        finally:
            for layer in unread:
                layer.close()

    def _batches(
        self, runs: Sequence[KeyRange], unread: set[_InTurn[AnyLayer]]
    ) -> Iterator[tuple[_InTurn[AnyLayer], list[KeyRange]]]:
        """What is read at a time. In `unread` are the layers that have not been read to their end."""
        by_layer: dict[AnyLayer, list[KeyRange]] = {}
        for layer, run in self._split(runs):
            by_layer.setdefault(layer, []).append(run)
        for layer, its_runs in by_layer.items():
            groups = _grouped(its_runs)
            in_turn = _InTurn(self._timeline, layer, len(groups), unread.discard)
            unread.add(in_turn)
            for group in groups:
                yield in_turn, group

    async def _read(self, batch: tuple[_InTurn[AnyLayer], list[KeyRange]]) -> memoryview:
        layer, runs = batch
        with self._naming(layer.name):
            return await layer.read(partial(self._read_runs, runs=runs))

    def _read_runs(self, reader: ImageLayerReader, *, runs: Sequence[KeyRange]) -> memoryview:
        batch = reader.pages(runs)
        if len(batch.keys) != sum(run.end.field6 - run.start.field6 for run in runs):
            raise MissingKey(_first_missing(batch, runs), self.shard, self.lsn, f"layer {reader.name}")
        return memoryview(batch.pages)

    @contextmanager
    def _naming(self, layer: LayerName) -> Iterator[None]:
        try:
            yield
        except (OSError, LayerCorrupted, ObjectNotFound, ScopeClosed) as e:
            raise BackupError(f"cannot read layer {layer} of shard {self.shard.index}") from e

    def _layer_of(self, key: Key) -> AnyLayer | None:
        at = bisect_right(self._starts, key) - 1
        return self._layers[at] if at >= 0 and self._layers[at].name.key_range.contains(key) else None

    def _split(self, runs: Sequence[KeyRange]) -> Iterator[tuple[AnyLayer, KeyRange]]:
        """The runs, cut where layers end. Raises MissingKey where there is none."""
        for run in runs:
            start = run.start
            while start < run.end:
                layer = self._layer_of(start)
                if layer is None:
                    raise MissingKey(start, self.shard, self.lsn, "no layer covers it")
                end = min(run.end, layer.name.key_range.end)
                yield layer, KeyRange(start, end)
                start = end


class _InTurn(Generic[AnyLayer]):
    """A layer that is read so many times: it is open from the first of them to the last."""

    def __init__(
        self,
        timeline: LayeredTimeline[AnyLayer],
        layer: AnyLayer,
        times: int,
        when_read: Callable[[_InTurn[AnyLayer]], object],
    ) -> None:
        self.name = layer.name
        self._timeline = timeline
        self._layer = layer
        self._times = times
        self._when_read = when_read
        self._opening = asyncio.Lock()
        self._reader: ImageLayerReader | None = None

    async def read(self, work: Callable[[ImageLayerReader], T]) -> T:
        """Raises what the timeline's `open_layer` raises."""

        def keep(reader: ImageLayerReader) -> T:
            self.close()  # one that was damaged, and was downloaded again
            self._reader = reader
            return work(reader)

        async with self._opening:
            reader = self._reader
            if reader is None:
                result = await self._timeline.open_layer(self._layer, keep)
        if reader is not None:
            result = await run_blocking(work, reader)
        self._times -= 1
        if not self._times:
            self.close()
            self._when_read(self)
        return result

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()


def _grouped(runs: Sequence[KeyRange]) -> list[list[KeyRange]]:
    """The runs, long ones cut and short ones put together, in groups of at most `_BATCH_BLOCKS` pages."""
    groups: list[list[KeyRange]] = []
    room = 0
    for run in runs:
        start = run.start
        while start < run.end:
            if not room:
                groups.append([])
                room = _BATCH_BLOCKS
            blocks = min(room, run.end.field6 - start.field6)
            end = start.advance(blocks)
            groups[-1].append(KeyRange(start, end))
            start, room = end, room - blocks
    return groups


def _first_missing(batch: PageBatch, runs: Sequence[KeyRange]) -> Key:
    """The first key of the runs that is not in the batch; there must be one."""
    present = {key.tobytes() for key in batch.keys}
    return next(
        key
        for run in runs
        for key in map(run.start.advance, range(run.end.field6 - run.start.field6))
        if key.to_bytes() not in present
    )
