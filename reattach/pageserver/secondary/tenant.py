"""A tenant shard that stands by: its layers are here, nobody reads them."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from pathlib import Path

import msgspec

from reattach.api import codec
from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.layer_name import LayerName
from reattach.api.remote_path import heatmap_path, layer_path
from reattach.pageserver.blocking import run_blocking
from reattach.pageserver.context import Context
from reattach.pageserver.files import temp_name, write_atomically
from reattach.pageserver.remote.storage import ObjectNotFound, retry_forever
from reattach.pageserver.scope import Scope
from reattach.pageserver.secondary.heatmap import Heatmap, HeatmapLayer, HeatmapTimeline
from reattach.pageserver.tenant.location import LocationConf

log = logging.getLogger(__name__)

_HEATMAP_FILE = "heatmap-v1.json"


class SecondaryProgress(msgspec.Struct):
    """How much of the last heatmap is on the disk. `heatmap_mtime`: RFC 3339 with milliseconds."""

    heatmap_mtime: str | None = None
    layers_downloaded: int = 0
    layers_total: int = 0
    bytes_downloaded: int = 0
    bytes_total: int = 0

    @property
    def is_complete(self) -> bool:
        return self.layers_downloaded >= self.layers_total


class SecondaryTenant:
    """Downloads what the heatmap lists whenever `download` is called; callers share one download."""

    def __init__(self, context: Context, shard_id: TenantShardId, conf: LocationConf) -> None:
        self.id = shard_id
        self.conf = conf
        self.progress = SecondaryProgress()
        self._context = context
        self._scope = Scope()
        self._download: asyncio.Task[None] | None = None

    def set_conf(self, conf: LocationConf) -> None:
        self.conf = conf

    async def shutdown(self) -> None:
        """Nothing is written to the disk afterwards."""
        await self._scope.close()

    async def download(self, wait_seconds: float | None) -> bool:
        """Returns whether everything that the heatmap lists is here, after so long at most.

        The download goes on when the time is up. Raises ScopeClosed.
        """
        if self._download is None or self._download.done():
            self._download = self._scope.spawn(self._run_download())
        done, _ = await asyncio.wait({self._download}, timeout=wait_seconds)
        if not done or self._download.cancelled():
            return False
        error = self._download.exception()
        if error is not None:
            log.error("secondary download of %s failed: %s", self.id, error)
            return False
        return self.progress.is_complete

    async def _run_download(self) -> None:
        if not self.conf.warm:
            return
        path = heatmap_path(self.id)
        try:
            info = await retry_forever("look-up of the heatmap", lambda: self._context.storage.head(path))
            raw = await retry_forever("download of the heatmap", lambda: self._context.storage.get(path))
            heatmap = Heatmap.from_json_bytes(raw)
        except ObjectNotFound:
            log.info("%s: no heatmap", self.id)
            self.progress = SecondaryProgress()
            return
        except codec.DecodeError as e:
            log.error("%s: heatmap cannot be read: %s", self.id, e)
            return
        layers = [layer for timeline in heatmap.timelines for layer in timeline.layers]
        self.progress = SecondaryProgress(
            _rfc3339(info.last_modified), 0, len(layers), 0, sum(layer.metadata.file_size for layer in layers)
        )
        directory = self._context.tenant_directory(self.id)
        await run_blocking(write_atomically, directory / _HEATMAP_FILE, raw, sync=False)
        for timeline in heatmap.timelines:
            await self._download_timeline(timeline)

    async def _download_timeline(self, timeline: HeatmapTimeline) -> None:
        directory = self._context.timeline_directory(self.id, timeline.timeline_id)
        wanted = [(LayerName.parse(layer.name), layer) for layer in timeline.layers]
        await run_blocking(
            _drop_unwanted, directory, {name.local_file(layer.metadata.generation) for name, layer in wanted}
        )
        for name, layer in wanted:
            target = directory / name.local_file(layer.metadata.generation)
            if not await run_blocking(_is_there, target, layer.metadata.file_size):
                await self._download_layer(timeline.timeline_id, name, layer, target)
            self.progress.layers_downloaded += 1
            self.progress.bytes_downloaded += layer.metadata.file_size

    async def _download_layer(
        self, timeline_id: TimelineId, name: LayerName, layer: HeatmapLayer, target: Path
    ) -> None:
        metadata = layer.metadata
        path = layer_path(self.id.tenant_id, metadata.shard_index, timeline_id, name, metadata.generation)
        temp = target.with_name(temp_name(target.name))
        try:
            await retry_forever(
                f"download of layer {name}", lambda: self._context.storage.download_file(path, temp)
            )
            temp.replace(target)
        except ObjectNotFound:
            log.info("%s: layer %s is gone, the next heatmap will say so", self.id, name)
        finally:
            temp.unlink(missing_ok=True)


def _drop_unwanted(directory: Path, wanted: set[str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.iterdir():
        if path.name not in wanted:
            path.unlink()


def _is_there(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size == size


def _rfc3339(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z"
