"""A timeline of an attached tenant shard, as far as it has been imported."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TypeVar

from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.key import Key, KeyRange
from reattach.api.layer_name import LayerName
from reattach.api.lsn import Lsn
from reattach.api.shard import ShardIdentity
from reattach.pageserver.blocking import run_blocking
from reattach.pageserver.layers.checksum import verify_file
from reattach.pageserver.layers.errors import LayerCorrupted
from reattach.pageserver.layers.image_layer_reader import ImageLayerReader
from reattach.pageserver.layers.timeline_metadata import TimelineMetadata
from reattach.pageserver.metrics import Metrics
from reattach.pageserver.remote.storage import RemoteError
from reattach.pageserver.remote.timeline_client import TimelineClient
from reattach.pageserver.scope import Scope
from reattach.pageserver.timeline.layer import Layer
from reattach.pageserver.timeline.layer_map import LayerMap
from reattach.runtime.failpoints import failpoints

log = logging.getLogger(__name__)

T = TypeVar("T")

_downloads = itertools.count()


class TimelineState(StrEnum):
    LOADING = "Loading"
    ACTIVE = "Active"
    STOPPING = "Stopping"


class MissingKey(Exception):
    """No layer says anything about the key, or the one that covers it does not have it."""

    def __init__(self, key: Key, shard: ShardIdentity, lsn: Lsn) -> None:
        super().__init__(
            f"could not find data for key [{key}..{key.next()},] (shard ShardNumber({shard.number})), "
            f"original HWM LSN {lsn}"
        )


@dataclass(frozen=True, slots=True)
class FoundValue:
    """A stored value and the layer that had it."""

    value: bytes
    layer: LayerName


class Timeline:
    """Layers on the disk and in remote storage, and how to read them."""

    def __init__(
        self,
        *,
        tenant_shard_id: TenantShardId,
        timeline_id: TimelineId,
        shard: ShardIdentity,
        generation: int,
        directory: Path,
        client: TimelineClient,
        metrics: Metrics,
        resident: Iterable[LayerName] = (),
    ) -> None:
        """`resident`: the layers of the index whose files are in the directory."""
        self.tenant_shard_id = tenant_shard_id
        self.timeline_id = timeline_id
        self.shard = shard
        self.generation = generation
        self.directory = directory
        self.client = client
        self.state = TimelineState.LOADING
        self.layers = LayerMap()
        self.scope = Scope()
        self.logical_size: int | None = None
        self.logical_size_task: asyncio.Task[None] | None = None
        self._metrics = metrics
        here = frozenset(resident)
        for name, layer in client.index.layers.items():
            self.layers.insert(Layer(name, layer, is_resident=name in here))

    def __str__(self) -> str:
        return f"{self.tenant_shard_id}/{self.timeline_id}"

    @property
    def metadata(self) -> TimelineMetadata:
        return self.client.metadata

    @property
    def is_stopping(self) -> bool:
        return self.state is TimelineState.STOPPING

    @property
    def last_record_lsn(self) -> Lsn:
        return self.metadata.disk_consistent_lsn

    @property
    def resident_size(self) -> int:
        """Bytes of the layers on the disk."""
        return sum(layer.metadata.file_size for layer in self.layers if layer.is_resident)

    # Reading

    def layers_for(self, keys: KeyRange, lsn: Lsn | None = None) -> list[Layer]:
        """The layers that share keys with the range, by start key; not newer than `lsn`."""
        return self.layers.overlapping(keys, self.last_record_lsn if lsn is None else lsn)

    async def open_layer(self, layer: Layer, then: Callable[[ImageLayerReader], T]) -> T:
        """What `then` makes of a reader of the layer, which it has to close, in the thread that opens it.

        Downloads the file if it is not on the disk. One that was found there is compared with its checksum
        when it is first opened, and downloaded again if it is damaged. Raises LayerCorrupted, OSError,
        ObjectNotFound and ScopeClosed.
        """
        layer.touch()
        tenant_id = self.tenant_shard_id.tenant_id
        path = layer.path_in(self.directory)
        while True:
            downloaded = await self.ensure_resident(layer)
            checksum = None if layer.is_verified else layer.metadata.checksum
            reader = partial(ImageLayerReader, path, layer.name, tenant_id, checksum=checksum)
            try:
                result = await run_blocking(lambda opened: then(opened()), reader)
            except (LayerCorrupted, FileNotFoundError) as e:
                if downloaded or not layer.is_uploaded:
                    raise
                log.info("local file of layer %s is damaged, downloading it again: %s", layer.name, e)
                layer.is_resident = False
                continue
            layer.is_verified = True
            return result

    async def read_layer(self, layer: Layer, work: Callable[[ImageLayerReader], T]) -> T:
        """What `work` makes of a reader of the layer. As `open_layer`."""

        def read(reader: ImageLayerReader) -> T:
            with reader:
                return work(reader)

        return await self.open_layer(layer, read)

    async def get(self, key: Key, lsn: Lsn) -> FoundValue:
        """Raises MissingKey, and like `open_layer`."""
        layer = self.layers.find(key, lsn)
        if layer is None:
            raise MissingKey(key, self.shard, lsn)
        value = await self.read_layer(layer, lambda reader: reader.get(key))
        if value is None:
            raise MissingKey(key, self.shard, lsn)
        return FoundValue(value, layer.name)

    # Disk

    async def ensure_resident(self, layer: Layer) -> bool:
        """Downloads the layer's file if it is not there. Returns whether it had to."""
        async with layer.lock:
            if layer.is_resident:
                return False
            await self.scope.run(self._download(layer))
            return True

    async def _download(self, layer: Layer) -> None:
        target = layer.path_in(self.directory)
        temp = target.with_name(f"{target.name}.{next(_downloads):x}.temp_download")
        await failpoints.pausable("before-downloading-layer-stream-pausable")
        try:
            size = await self.client.download_layer(layer.name, layer.metadata, temp)
            if size != layer.metadata.file_size:
                raise LayerCorrupted(
                    f"layer {layer.name} has {size} bytes in remote storage, "
                    f"the index says {layer.metadata.file_size}"
                )
            if layer.metadata.checksum is not None:
                await run_blocking(verify_file, temp, layer.metadata.checksum)
            if await failpoints.hit("remote-storage-download-pre-rename") is not None:
                raise RemoteError("remote-storage-download-pre-rename failpoint triggered")
            temp.replace(target)
        finally:
            temp.unlink(missing_ok=True)
        layer.is_resident = layer.is_verified = True
        layer.resident_since = time.time()
        self._metrics.ondemand_downloads.inc()

    async def evict(self, layer: Layer) -> bool:
        """Removes the layer's file from the disk. False if it is not there, or nowhere else."""
        async with layer.lock:
            if not (layer.is_resident and layer.is_uploaded):
                return False
            await run_blocking(layer.path_in(self.directory).unlink, missing_ok=True)
            layer.is_resident = layer.is_verified = False
        labels = (str(self.tenant_shard_id.tenant_id), str(self.tenant_shard_id.shard_index))
        self._metrics.evictions.inc(*labels, str(self.timeline_id))
        return True

    # Life

    async def flush(self, seconds: float) -> bool:
        """Makes what is there durable in remote storage, as far as that can be done in time."""
        self.client.schedule_index_upload_if_changed()
        try:
            async with asyncio.timeout(seconds):
                await self.client.wait_completion()
        except TimeoutError:
            return False
        return True

    async def shutdown(self, drain_seconds: float) -> None:
        """No task of this timeline touches the disk or remote storage afterwards."""
        self.state = TimelineState.STOPPING
        await self.scope.cancel_tasks()
        await self.client.stop(drain_seconds)
        await self.scope.close()
