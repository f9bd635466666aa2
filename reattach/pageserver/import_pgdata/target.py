"""What an import needs of the timeline that it fills, of the storage controller and of the metrics."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.import_status import ShardImportStatus
from reattach.api.layer_name import LayerName
from reattach.api.lsn import Lsn
from reattach.api.shard import ShardIdentity
from reattach.pageserver.layers.index_part import ImportSource


class ImportTarget(Protocol):
    """A timeline being imported, in one generation.

    What goes to remote storage is retried without end inside. Every method raises OSError if local files
    cannot be changed, and `errors.ImportInterrupted` if the timeline has begun to shut down.
    """

    @property
    def tenant_shard_id(self) -> TenantShardId: ...
    @property
    def timeline_id(self) -> TimelineId: ...
    @property
    def shard(self) -> ShardIdentity: ...
    @property
    def generation(self) -> int: ...
    @property
    def directory(self) -> Path:
        """The local timeline directory, for temporary files (`*.___temp`)."""

    @property
    def is_cancelling(self) -> bool:
        """The tenant shuts down or the timeline is being deleted."""

    @property
    def is_import_done(self) -> bool:
        """The index already says Done."""

    @property
    def import_source(self) -> ImportSource | None:
        """What the index says about the bucket contents that the import began with."""

    async def read_source_manifest(self, source: ImportSource) -> bytes | None:
        """The object `import_source-<generation>` next to the index; None if it is gone."""

    async def record_source(self, manifest: bytes, digest: str) -> None:
        """Uploads `manifest` as `import_source-<this generation>`, then an index that refers to it. Waits
        until both are durable."""

    async def wipe_layers(self) -> None:
        """Unlinks every layer, drops it from the map, removes its file, schedules its remote deletion."""

    async def upload_metadata(self, base_lsn: Lsn, pg_version: int) -> None:
        """Uploads an index with the metadata of an imported timeline and waits until it is durable. Does
        nothing if the index has it."""

    async def add_layer(self, temp_file: Path, name: LayerName, file_size: int, checksum: str) -> bool:
        """Renames the file to its final name, puts the layer into the map and schedules its upload.

        A layer of the same name of an older generation is replaced (unlinked first): returns True then.
        One of the same generation is an error (`errors.RewriteInSameGeneration`).
        """

    async def make_durable(self) -> None:
        """Schedules an index upload if layers changed and waits until everything scheduled is uploaded."""

    async def check_layers(self, wanted: Collection[LayerName]) -> None:
        """Raises `errors.LayersLost` unless the index has these layers, and remote storage each layer of the
        index in its size."""


class ImportUpcalls(Protocol):
    """The storage controller, bound to tenant shard, timeline and generation.

    Both calls retry until they succeed or are cancelled.
    """

    async def get_status(self) -> ShardImportStatus: ...

    async def put_status(self, status: ShardImportStatus) -> None: ...


class ImportMetrics(Protocol):
    """Told what an import does."""

    def jobs_planned(self, jobs: int) -> None:
        """A plan of so many jobs was made."""

    def job_done(self, rerun: bool) -> None:
        """A job wrote its layer, or had none to write. `rerun`: it replaced one of an older generation."""

    def bytes_read(self, count: int) -> None:
        """So many bytes of objects came from the bucket."""

    def checkpoint_done(self, seconds: float) -> None:
        """A checkpoint, from its first upload to the controller's answer, took so long."""
