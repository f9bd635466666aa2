"""A timeline whose layers are files of one directory, as an import of a data directory writes them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from reattach.api.ids import TenantId, TimelineId
from reattach.api.key import KEY_MAX, KEY_MIN, Key, KeyRange
from reattach.api.layer_name import LayerName
from reattach.api.lsn import Lsn
from reattach.api.shard import ShardIdentity
from reattach.pageserver.fullbackup.catalog import read_catalog
from reattach.pageserver.fullbackup.plan import PageFile, data_directory
from reattach.pageserver.layers.compression import ImageCompression
from reattach.pageserver.layers.image_layer_reader import ImageLayerReader
from reattach.pageserver.layers.image_layer_writer import ImageLayerWriter
from reattach.pageserver.layers.timeline_metadata import TimelineMetadata
from test_runner.unit.fullbackup.directory_source import DirectorySource

TENANT = TenantId("11" * 16)
TIMELINE = TimelineId("22" * 16)


class NamedLayer(NamedTuple):
    name: LayerName


class CountingReader(ImageLayerReader):
    """Knows how many of its kind are open."""

    open_now = 0

    def __init__(self, path: Path, name: LayerName) -> None:
        super().__init__(path, name, TENANT)
        CountingReader.open_now += 1

    def close(self) -> None:
        if self._fd >= 0:
            CountingReader.open_now -= 1
        super().close()


class LayeredDirectory:
    """Serves the layers below `directory`."""

    def __init__(self, directory: Path, source: DirectorySource) -> None:
        self.directory = directory
        self.shard: ShardIdentity = source.shard
        self.metadata = TimelineMetadata.of_import(source.lsn, source.pg_version)
        self.names: list[LayerName] = []
        self.opened: list[LayerName] = []

    def layers_for(self, keys: KeyRange, lsn: Lsn | None = None) -> list[NamedLayer]:
        assert lsn is not None
        return [NamedLayer(name) for name in self.names if name.key_range.overlaps(keys) and name.lsn <= lsn]

    def path(self, name: LayerName) -> Path:
        return self.directory / name.local_file(1)

    async def open_layer(self, layer: NamedLayer) -> ImageLayerReader:
        self.opened.append(layer.name)
        return CountingReader(self.path(layer.name), layer.name)


async def import_into_layers(
    source: DirectorySource, directory: Path, *, layers: int = 4, compression: str = "zstd(1)"
) -> LayeredDirectory:
    """Writes every value that `source` has into `layers` layers of about as many keys."""
    directory.mkdir(parents=True)
    timeline = LayeredDirectory(directory, source)
    keys = [key async for key in _all_keys(source)]
    cuts = [keys[len(keys) * n // layers] for n in range(1, layers)]
    bounds = [KEY_MIN, *cuts, KEY_MAX]
    for start, end in pairwise(bounds):
        name = LayerName(KeyRange(start, end), source.lsn)
        writer = ImageLayerWriter(
            timeline.path(name), name, TENANT, TIMELINE, ImageCompression.parse(compression)
        )
        for key in keys:
            if start <= key < end:
                writer.put(key, await _value(source, key))
        writer.finish()
        timeline.names.append(name)
    return timeline


async def _all_keys(source: DirectorySource) -> AsyncGenerator[Key]:
    catalog = await read_catalog(source)
    members = data_directory(catalog, source.shard)
    runs = [run for member in members if isinstance(member, PageFile) for run in member.key_ranges()]
    pages = [run.start.advance(n) for run in runs for n in range(run.end.field6 - run.start.field6)]
    for key in sorted([*source.store, *pages]):
        if not source.shard.is_disposable(key):
            yield key


async def _value(source: DirectorySource, key: Key) -> bytes:
    (value,) = await source.values([key])
    if value is not None:
        return value
    return b"".join([bytes(page) async for page in source.pages([KeyRange.single(key)])])
