"""What an import does to its timeline: the timeline's side of `import_pgdata.target.ImportTarget`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.layer_name import LayerName, generation_suffix
from reattach.api.lsn import Lsn
from reattach.api.shard import ShardIdentity
from reattach.pageserver.blocking import run_blocking
from reattach.pageserver.import_pgdata.errors import ImportInterrupted, LayersLost, RewriteInSameGeneration
from reattach.pageserver.layers.index_part import (
    ImportDone,
    ImportInProgress,
    ImportSource,
    LayerFileMetadata,
)
from reattach.pageserver.layers.timeline_metadata import TimelineMetadata
from reattach.pageserver.remote.timeline_objects import unsound_layers
from reattach.pageserver.remote.upload_queue import QueueStopped
from reattach.pageserver.timeline.layer import Layer
from reattach.pageserver.timeline.timeline import Timeline


class TimelineImportTarget:
    """Fills one timeline. Methods raise ImportInterrupted once the timeline shuts down, and OSError."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._client = timeline.client

    @property
    def tenant_shard_id(self) -> TenantShardId:
        return self._timeline.tenant_shard_id

    @property
    def timeline_id(self) -> TimelineId:
        return self._timeline.timeline_id

    @property
    def shard(self) -> ShardIdentity:
        return self._timeline.shard

    @property
    def generation(self) -> int:
        return self._timeline.generation

    @property
    def directory(self) -> Path:
        return self._timeline.directory

    @property
    def is_cancelling(self) -> bool:
        return self._timeline.is_stopping

    @property
    def is_import_done(self) -> bool:
        return isinstance(self._client.import_state, ImportDone)

    @property
    def import_source(self) -> ImportSource | None:
        state = self._client.import_state
        return state.source if isinstance(state, ImportInProgress) else None

    async def read_source_manifest(self, source: ImportSource) -> bytes | None:
        return await self._client.get_object(_manifest_name(source.generation))

    async def record_source(self, manifest: bytes, digest: str) -> None:
        async with self._alive():
            await self._client.put_object(_manifest_name(self.generation), manifest)
            state = self._client.import_state
            if not isinstance(state, ImportInProgress):
                raise ImportInterrupted("the import is not in progress any more")
            source = ImportSource(digest, self.generation)
            self._client.set_import_state(msgspec.structs.replace(state, source=source))
            self._client.schedule_index_upload()
            await self._client.wait_completion()

    async def wipe_layers(self) -> None:
        async with self._alive():
            layers = self._timeline.layers.clear()
            self._client.schedule_unlink([layer.name for layer in layers])
            await run_blocking(_remove_files, [layer.path_in(self.directory) for layer in layers])

    async def upload_metadata(self, base_lsn: Lsn, pg_version: int) -> None:
        async with self._alive():
            metadata = TimelineMetadata.of_import(base_lsn, pg_version)
            if self._client.metadata == metadata:
                return
            self._client.set_metadata(metadata)
            self._client.schedule_index_upload()
            await self._client.wait_completion()

    async def add_layer(self, temp_file: Path, name: LayerName, file_size: int, checksum: str) -> bool:
        async with self._alive():
            metadata = LayerFileMetadata.written_by(
                file_size, self.generation, self.tenant_shard_id.shard_index, checksum
            )
            layer = Layer(name, metadata, True, is_uploaded=False, is_verified=True, written_here=True)
            path = layer.path_in(self.directory)
            older = self._timeline.layers.get(name)
            if older is not None:
                self._unlink(older, path)
            # No await from here on: the file, the map and the index change together.
            temp_file.replace(path)
            self._timeline.layers.insert(layer)
            self._client.schedule_layer_upload(
                name, metadata, path, lambda: setattr(layer, "is_uploaded", True)
            )
            return older is not None

    def _unlink(self, older: Layer, new_path: Path) -> None:
        """Takes a layer out of the index that an earlier attachment wrote, maybe in this same generation."""
        if older.written_here:
            raise RewriteInSameGeneration(new_path)
        self._client.schedule_unlink([older.name])
        older.path_in(self.directory).unlink(missing_ok=True)

    async def make_durable(self) -> None:
        async with self._alive():
            self._client.schedule_index_upload_if_changed()
            await self._client.wait_completion()

    async def check_layers(self, wanted: Collection[LayerName]) -> None:
        async with self._alive():
            listed = await self._client.list_objects()
            problems = list(unsound_layers(self._client.index.layers, listed, wanted))
            if problems:
                more = f" (and {len(problems) - 1} more)" if problems[1:] else ""
                raise LayersLost(f"{self._timeline}: {problems[0]}{more}")

    @asynccontextmanager
    async def _alive(self) -> AsyncIterator[None]:
        if self.is_cancelling:
            raise ImportInterrupted("timeline is shutting down")
        try:
            yield
        except QueueStopped as e:
            raise ImportInterrupted(str(e)) from e


def _manifest_name(generation: int) -> str:
    return f"import_source{generation_suffix(generation)}"


def _remove_files(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
