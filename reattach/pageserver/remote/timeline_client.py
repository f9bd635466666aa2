"""A timeline's side of remote storage: its index, and the changes of it that are under way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.layer_name import LayerName
from reattach.api.location import LocationConfigMode
from reattach.api.lsn import INVALID_LSN, Lsn
from reattach.api.remote_path import index_path, layer_path, timeline_prefix
from reattach.pageserver.layers import naive_datetime
from reattach.pageserver.layers.index_part import ImportState, IndexPart, LayerFileMetadata
from reattach.pageserver.layers.timeline_metadata import TimelineMetadata
from reattach.pageserver.metrics import Metrics
from reattach.pageserver.remote.deletion_queue import DeletionQueue
from reattach.pageserver.remote.index_choice import newest_allowed
from reattach.pageserver.remote.storage import (
    ObjectInfo,
    ObjectNotFound,
    RemoteError,
    RemoteStorage,
    retry_forever,
    try_times,
)
from reattach.pageserver.remote.timeline_objects import INDEX_NAME, unnamed, written_until
from reattach.pageserver.remote.upload_order import DeleteLayers, Operation, UploadIndex, UploadLayer
from reattach.pageserver.remote.upload_queue import UploadQueue
from reattach.runtime.failpoints import failpoints

log = logging.getLogger(__name__)

_DELETED_AT_TRIES = 3


@dataclass(frozen=True, slots=True)
class _LayerSource:
    name: LayerName
    file: Path
    size: int
    on_uploaded: Callable[[], None]


class TimelineClient:
    """The index as it will be once everything scheduled is done, and the queue that gets it there.

    What is scheduled is visible in `index` at once. Scheduling raises QueueStopped after `stop`.
    """

    def __init__(
        self,
        storage: RemoteStorage,
        deletions: DeletionQueue,
        metrics: Metrics,
        tenant: TenantShardId,
        timeline: TimelineId,
        generation: int,
        index: IndexPart,
        mode: LocationConfigMode,
    ) -> None:
        self._storage = storage
        self._deletions = deletions
        self._metrics = metrics
        self._tenant = tenant
        self._timeline = timeline
        self._generation = generation
        self._index = msgspec.structs.replace(index, layers={})
        self._layers = dict(index.layers)
        self._queue: UploadQueue[IndexPart] = UploadQueue(self._perform)
        self._changed = False
        self._mode = mode
        self._held_back: list[str] = []
        self._labels = (str(tenant.tenant_id), str(tenant.shard_index), str(timeline))
        self.remote_consistent_lsn = INVALID_LSN
        self.remote_consistent_lsn_visible = index.disk_consistent_lsn

    @property
    def index(self) -> IndexPart:
        """A snapshot."""
        return msgspec.structs.replace(self._index, layers=dict(self._layers))

    @property
    def metadata(self) -> TimelineMetadata:
        return self._index.metadata

    @property
    def import_state(self) -> ImportState | None:
        return self._index.import_state

    @property
    def remote_size(self) -> int:
        """Bytes of the index's layers."""
        return sum(layer.file_size for layer in self._layers.values())

    def set_mode(self, mode: LocationConfigMode) -> None:
        """Only AttachedSingle deletes: elsewhere another attachment may still read what we do not need."""
        self._mode = mode
        if mode is LocationConfigMode.ATTACHED_SINGLE and self._held_back:
            held, self._held_back = self._held_back, []
            self._deletions.push(self._tenant, self._timeline, self._generation, held)

    def trust_index(self) -> None:
        """The controller has confirmed this generation, so what is durable now is what counts."""
        self.remote_consistent_lsn_visible = self._index.disk_consistent_lsn

    # Scheduling

    def schedule_layer_upload(
        self,
        name: LayerName,
        metadata: LayerFileMetadata,
        file: Path,
        on_uploaded: Callable[[], None],
    ) -> None:
        """Puts the layer into the index; its object will be there before an index that references it."""
        path = self._layer_path(name, metadata)
        self._count_started("layer", "upload", metadata.file_size)
        source = _LayerSource(name, file, metadata.file_size, on_uploaded)
        self._queue.push(UploadLayer(path, source))
        self._layers[name] = metadata
        self._changed = True

    def schedule_index_upload(self) -> None:
        self._count_started("index", "upload", 0)
        self._queue.push(UploadIndex(self.index))
        self._changed = False

    def schedule_index_upload_if_changed(self) -> None:
        """Only if layers came or went since the last scheduled index."""
        if self._changed:
            self.schedule_index_upload()

    def schedule_unlink(self, names: Iterable[LayerName]) -> None:
        """Uploads an index without these layers, and deletes their objects after that."""
        removed = {name: self._layers.pop(name) for name in names if name in self._layers}
        if not removed:
            return
        self.schedule_index_upload()
        ours = [
            self._layer_path(name, metadata)
            for name, metadata in removed.items()
            if metadata.shard_index == self._tenant.shard_index
        ]
        if ours:
            self._delete(ours)

    async def delete_unnamed(self) -> None:
        """Deletes what attachments up to this one wrote and the index does not reference.

        Returns when that is asked for. An index of this generation comes first: it outlives the older ones,
        also those that somebody who was given up writes later.
        """
        ours = index_path(self._tenant, self._timeline, self._generation).rpartition("/")[2]
        listed = written_until(await self.list_objects(), self._generation)
        newest = newest_allowed([e.name for e in listed if e.name.startswith(INDEX_NAME)], self._generation)
        if not unnamed(listed, self._layers, keep={newest or ours}):
            return
        if newest != ours:
            self.schedule_index_upload()
        doomed = unnamed(listed, self._layers, keep={ours})
        log.info("%s/%s: %d objects are left over", self._tenant, self._timeline, len(doomed))
        self._delete(each.path for each in doomed)

    def _delete(self, paths: Iterable[str]) -> None:
        self._count_started("layer", "delete", 0)
        self._queue.push(DeleteLayers(frozenset(paths)))

    def set_metadata(self, metadata: TimelineMetadata) -> None:
        self._index = msgspec.structs.replace(self._index, metadata=metadata)

    def set_import_state(self, state: ImportState) -> None:
        self._index = msgspec.structs.replace(self._index, import_state=state)

    async def wait_completion(self) -> None:
        """Returns when everything scheduled before is done. Raises what stopped the queue."""
        await self._queue.wait_completion()

    async def stop(self, drain_seconds: float) -> None:
        """Nothing is under way afterwards, and nothing more will be. Deletions held back are forgotten."""
        await self._queue.stop(drain_seconds)
        self._held_back = []

    # Objects next to the index

    async def put_object(self, name: str, data: bytes) -> None:
        path = f"{timeline_prefix(self._tenant, self._timeline)}/{name}"
        await retry_forever(f"upload of {name}", lambda: self._storage.put(path, data))

    async def get_object(self, name: str) -> bytes | None:
        """None if there is no such object."""
        path = f"{timeline_prefix(self._tenant, self._timeline)}/{name}"
        try:
            return await retry_forever(f"download of {name}", lambda: self._storage.get(path))
        except ObjectNotFound:
            return None

    async def list_objects(self) -> list[ObjectInfo]:
        """Everything below the timeline's prefix."""
        prefix = timeline_prefix(self._tenant, self._timeline)
        return await retry_forever(
            "listing of a timeline's objects", lambda: self._storage.list_objects(prefix)
        )

    async def download_layer(self, name: LayerName, metadata: LayerFileMetadata, target: Path) -> int:
        """Raises ObjectNotFound and OSError. Returns the bytes written."""
        path = self._layer_path(name, metadata)
        return await retry_forever(
            f"download of layer {name}", lambda: self._storage.download_file(path, target)
        )

    async def persist_deleted_at(self) -> None:
        """Uploads an index that says that the timeline is being deleted. The queue must be stopped.

        Raises RemoteError.
        """
        self._index = msgspec.structs.replace(self._index, deleted_at=naive_datetime.now())
        await try_times(
            "upload of the deleted index", _DELETED_AT_TRIES, lambda: self._upload_index(self.index)
        )

    # Performing

    async def _perform(self, operation: Operation[IndexPart]) -> None:
        match operation:
            case UploadLayer(path, _LayerSource() as source):
                await self._perform_layer_upload(path, source)
            case UploadIndex(snapshot, calls):
                await retry_forever("index upload", lambda: self._upload_index(snapshot))
                self._count_finished("index", "upload", 0, calls)
                self._index_uploaded(snapshot.disk_consistent_lsn)
            case DeleteLayers(paths):
                await failpoints.pausable("before-delete-layer-pausable")
                names = sorted(path.rpartition("/")[2] for path in paths)
                if self._mode is LocationConfigMode.ATTACHED_SINGLE:
                    self._deletions.push(self._tenant, self._timeline, self._generation, names)
                else:
                    self._held_back += names
                self._count_finished("layer", "delete", 0)

    async def _perform_layer_upload(self, path: str, source: _LayerSource) -> None:
        name = path.rpartition("/")[2]
        if name in self._held_back:
            self._held_back.remove(name)
        await self._deletions.settle(path)
        try:
            await retry_forever(f"upload of layer {name}", lambda: self._upload_layer(source.file, path))
        except FileNotFoundError:
            if source.name in self._layers:
                raise
            log.info("layer %s was unlinked before its upload", name)
        else:
            source.on_uploaded()
        self._count_finished("layer", "upload", source.size)

    async def _upload_layer(self, file: Path, path: str) -> None:
        await _fail_if_asked("before-upload-layer")
        await self._storage.upload_file(file, path)

    async def _upload_index(self, snapshot: IndexPart) -> None:
        await _fail_if_asked("before-upload-index")
        snapshot.validate_for_upload()
        path = index_path(self._tenant, self._timeline, self._generation)
        await self._storage.put(path, snapshot.to_json_bytes())

    def _index_uploaded(self, lsn: Lsn) -> None:
        self.remote_consistent_lsn = lsn
        if self._mode is not LocationConfigMode.ATTACHED_STALE:
            self._deletions.push_lsn_update(
                self._tenant, self._timeline, self._generation, lsn, self._publish_lsn
            )

    def _publish_lsn(self, lsn: Lsn) -> None:
        self.remote_consistent_lsn_visible = lsn

    def _layer_path(self, name: LayerName, metadata: LayerFileMetadata) -> str:
        return layer_path(
            self._tenant.tenant_id, metadata.shard_index, self._timeline, name, metadata.generation
        )

    def _count_started(self, kind: str, operation: str, size: int) -> None:
        self._metrics.calls_started.inc(*self._labels, kind, operation)
        self._metrics.bytes_started.inc(*self._labels, kind, operation, by=size)

    def _count_finished(self, kind: str, operation: str, size: int, calls: int = 1) -> None:
        self._metrics.calls_finished.inc(*self._labels, kind, operation, by=calls)
        self._metrics.bytes_finished.inc(*self._labels, kind, operation, by=size)


async def _fail_if_asked(name: str) -> None:
    if await failpoints.hit(name) is not None:
        raise RemoteError(f"failpoint {name}")
    await failpoints.pausable(f"{name}-pausable")
