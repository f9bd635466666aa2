"""A timeline, a storage controller and metrics, in memory, for imports without a pageserver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from reattach.api.ids import TenantId, TenantShardId, TimelineId
from reattach.api.import_status import Error, InProgress, ShardImportStatus
from reattach.api.layer_name import LayerName
from reattach.api.lsn import Lsn
from reattach.api.shard import ShardIdentity
from reattach.pageserver.import_pgdata.errors import LayersLost, RewriteInSameGeneration
from reattach.pageserver.layers.index_part import ImportSource, LayerFileMetadata


@dataclass
class FakeTimeline:
    """Implements ImportTarget. `durable` are the layers that an uploaded index refers to."""

    directory: Path
    shard: ShardIdentity = field(default_factory=ShardIdentity)
    generation: int = 1
    tenant_id: TenantId = field(default_factory=TenantId.generate)
    timeline_id: TimelineId = field(default_factory=TimelineId.generate)
    is_cancelling: bool = False
    is_import_done: bool = False
    import_source: ImportSource | None = None
    manifest: bytes | None = None
    metadata: tuple[Lsn, int] | None = None
    wiped: int = 0
    layers: dict[LayerName, LayerFileMetadata] = field(default_factory=dict)
    durable: dict[LayerName, LayerFileMetadata] = field(default_factory=dict)

    @property
    def tenant_shard_id(self) -> TenantShardId:
        return TenantShardId(self.tenant_id, self.shard.number, self.shard.count)

    def path_of(self, name: LayerName) -> Path:
        return self.directory / name.local_file(self.layers[name].generation)

    def reattach(self) -> None:
        """What a crash and a new attach do: only what was durable is known, in the next generation."""
        self.generation += 1
        self.layers = dict(self.durable)

    async def read_source_manifest(self, source: ImportSource) -> bytes | None:
        return self.manifest

    async def record_source(self, manifest: bytes, digest: str) -> None:
        self.manifest = manifest
        self.import_source = ImportSource(digest, self.generation)

    async def wipe_layers(self) -> None:
        self.wiped += 1
        self.layers.clear()
        self.durable.clear()

    async def upload_metadata(self, base_lsn: Lsn, pg_version: int) -> None:
        self.metadata = (base_lsn, pg_version)

    async def add_layer(self, temp_file: Path, name: LayerName, file_size: int, checksum: str) -> bool:
        older = self.layers.get(name)
        if older is not None and older.generation == self.generation:
            raise RewriteInSameGeneration(self.path_of(name))
        assert temp_file.stat().st_size == file_size
        self.layers[name] = LayerFileMetadata.written_by(
            file_size, self.generation, self.shard.index, checksum
        )
        temp_file.rename(self.path_of(name))
        return older is not None

    async def make_durable(self) -> None:
        self.durable = dict(self.layers)

    async def check_layers(self, wanted: Collection[LayerName]) -> None:
        lost = [name for name in wanted if name not in self.durable]
        if lost:
            raise LayersLost(f"the index lacks layer {lost[0]}")


@dataclass
class FakeController:
    """Implements ImportUpcalls; `posted` is everything that it was told. `on_post` hears of it first."""

    status: ShardImportStatus = field(default_factory=InProgress)
    posted: list[ShardImportStatus] = field(default_factory=list)
    on_post: Callable[[ShardImportStatus], None] = lambda status: None

    async def get_status(self) -> ShardImportStatus:
        return self.status

    async def put_status(self, status: ShardImportStatus) -> None:
        await asyncio.sleep(0)
        self.on_post(status)
        self.status = status
        self.posted.append(status)

    @property
    def completed(self) -> list[int]:
        """The checkpoints, in the order of their arrival."""
        return [
            status.progress.completed
            for status in self.posted
            if isinstance(status, InProgress) and status.progress is not None
        ]

    @property
    def error(self) -> str:
        """The reason that the import ended with."""
        assert isinstance(self.status, Error), self.status
        return self.status.message


@dataclass
class FakeMetrics:
    """Implements ImportMetrics."""

    planned: list[int] = field(default_factory=list)
    done: list[bool] = field(default_factory=list)
    bytes: int = 0
    checkpoints: list[float] = field(default_factory=list)

    def jobs_planned(self, jobs: int) -> None:
        self.planned.append(jobs)

    def job_done(self, rerun: bool) -> None:
        self.done.append(rerun)

    def bytes_read(self, count: int) -> None:
        self.bytes += count

    def checkpoint_done(self, seconds: float) -> None:
        self.checkpoints.append(seconds)
