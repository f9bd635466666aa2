"""`index_part.json`: which layers a timeline consists of, and the state of its import."""

from __future__ import annotations

from typing import Any

import msgspec

from reattach.api import codec
from reattach.api.ids import UNSHARDED, ShardIndex
from reattach.api.layer_name import LayerName
from reattach.api.location import ImportLocation
from reattach.api.lsn import Lsn
from reattach.pageserver.layers import naive_datetime
from reattach.pageserver.layers.timeline_metadata import TimelineMetadata, read_legacy

LATEST_VERSION = 15


class IndexPartError(ValueError):
    """The text is no index part, or the index part must not be written."""


class LayerFileMetadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """A layer of the index.

    file_size: bytes.
    generation, shard: who wrote it; both are part of the object's name.
    checksum: `layers.checksum.LayerChecksum` of the file, None if its writer recorded none. An addition of
    ours that other readers ignore.
    """

    file_size: int
    generation: int | None = None
    shard: ShardIndex | None = None
    checksum: str | None = None

    @classmethod
    def written_by(
        cls, file_size: int, generation: int | None, shard: ShardIndex, checksum: str | None
    ) -> LayerFileMetadata:
        return cls(file_size, generation, shard if shard.is_sharded else None, checksum)

    @property
    def shard_index(self) -> ShardIndex:
        return self.shard or UNSHARDED


class ImportSource(msgspec.Struct, frozen=True):
    """Which bucket contents an import has begun with. An addition of ours that other readers ignore.

    digest: of every object that the import reads, see `import_pgdata.source`.
    generation: of the object that lists them (`import_source-<generation>` next to the index).
    """

    digest: str
    generation: int


class ImportInProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """`started_at` is a naive datetime."""

    idempotency_key: str
    location: ImportLocation
    started_at: str
    source: ImportSource | None = None

    def finish(self, finished_at: str | None = None) -> ImportDone:
        return ImportDone(self.idempotency_key, self.started_at, finished_at or naive_datetime.now())


class ImportDone(msgspec.Struct, frozen=True):
    """`started_at` and `finished_at` are naive datetimes."""

    idempotency_key: str
    started_at: str
    finished_at: str


ImportState = ImportInProgress | ImportDone


class Lineage(msgspec.Struct, frozen=True, omit_defaults=True):
    reparenting_history_truncated: bool = False
    reparenting_history: list[str] = []
    original_ancestor: Any = None


class IndexPart(msgspec.Struct, frozen=True, kw_only=True):
    """The index of one timeline of one shard. Change it with `msgspec.structs.replace`.

    The fields after `lineage` are carried along as they were read.
    """

    metadata: TimelineMetadata
    layers: dict[LayerName, LayerFileMetadata] = {}
    import_state: ImportState | None = None
    deleted_at: str | None = None
    archived_at: str | None = None
    version: int = LATEST_VERSION
    lineage: Lineage = Lineage()
    gc_blocking: Any = None
    last_aux_file_policy: Any = None
    rel_size_migration: str | None = None
    l2_lsn: Lsn | None = None
    gc_compaction: Any = None
    marked_invisible_at: str | None = None
    rel_size_migrated_at: Lsn | None = None

    @property
    def disk_consistent_lsn(self) -> Lsn:
        return self.metadata.disk_consistent_lsn

    @property
    def is_import_done(self) -> bool:
        return isinstance(self.import_state, ImportDone)

    @property
    def is_import_in_progress(self) -> bool:
        return isinstance(self.import_state, ImportInProgress)

    def validate_for_upload(self) -> None:
        """Raises IndexPartError for an index that would describe nothing."""
        if self.import_state is None and self.metadata.ancestor_timeline is None and not self.layers:
            raise IndexPartError("Index has no ancestor and no layers")

    def to_json_bytes(self) -> bytes:
        """The index as it is stored, always written as the latest version."""
        fields: dict[str, Any] = {"version": LATEST_VERSION}
        optional_head = {"deleted_at": self.deleted_at, "archived_at": self.archived_at}
        fields |= {name: value for name, value in optional_head.items() if value is not None}
        if self.import_state is not None:
            tag = "Done" if self.is_import_done else "InProgress"
            fields["import_pgdata"] = {"V1": {tag: self.import_state}}
        fields["layer_metadata"] = {str(name): layer for name, layer in self.layers.items()}
        fields["disk_consistent_lsn"] = self.disk_consistent_lsn
        fields["metadata_bytes"] = self.metadata
        fields["lineage"] = self.lineage
        for name in _OPTIONAL_TAIL:
            if (value := getattr(self, name)) is not None:
                fields[name] = value
        return codec.encode(fields)

    @classmethod
    def from_json_bytes(cls, raw: bytes) -> IndexPart:
        """Reads a stored index; fields that nobody knows are ignored. Raises IndexPartError."""
        try:
            wire = codec.decode(raw, _Wire)
            if (wire.metadata_bytes is None) == (wire.metadata is None):
                raise IndexPartError("an index part has metadata_bytes or metadata, and not both")
            for text in (wire.deleted_at, wire.archived_at, wire.marked_invisible_at):
                if text is not None:
                    naive_datetime.parse_naive(text)
            return cls(
                metadata=_read_metadata(wire.metadata_bytes or wire.metadata),
                layers={LayerName.parse(name): layer for name, layer in wire.layer_metadata.items()},
                import_state=_read_import_state(wire.import_pgdata),
                **{name: getattr(wire, name) for name in _CARRIED},
            )
        except (codec.DecodeError, UnicodeDecodeError, ValueError) as e:
            raise IndexPartError(f"malformed index part: {e}") from e


class _Wire(msgspec.Struct, frozen=True, kw_only=True):
    layer_metadata: dict[str, LayerFileMetadata]
    disk_consistent_lsn: Lsn
    metadata_bytes: dict[str, Any] | list[int] | None = None
    metadata: dict[str, Any] | list[int] | None = None
    import_pgdata: dict[str, Any] | None = None
    version: int = 0
    deleted_at: str | None = None
    archived_at: str | None = None
    lineage: Lineage = Lineage()
    gc_blocking: Any = None
    last_aux_file_policy: Any = None
    rel_size_migration: str | None = None
    l2_lsn: Lsn | None = None
    gc_compaction: Any = None
    marked_invisible_at: str | None = None
    rel_size_migrated_at: Lsn | None = None


_OPTIONAL_TAIL = (
    "gc_blocking",
    "last_aux_file_policy",
    "rel_size_migration",
    "l2_lsn",
    "gc_compaction",
    "marked_invisible_at",
    "rel_size_migrated_at",
)
_CARRIED = ("version", "deleted_at", "archived_at", "lineage", *_OPTIONAL_TAIL)


def _read_metadata(value: dict[str, Any] | list[int] | None) -> TimelineMetadata:
    return read_legacy(bytes(value)) if isinstance(value, list) else codec.convert(value, TimelineMetadata)


def _read_import_state(value: dict[str, Any] | None) -> ImportState | None:
    if value is None:
        return None
    match value:
        case {"V1": {"InProgress": body}} if len(value) == 1 and len(value["V1"]) == 1:
            state: ImportState = codec.convert(body, ImportInProgress)
        case {"V1": {"Done": body}} if len(value) == 1 and len(value["V1"]) == 1:
            state = codec.convert(body, ImportDone)
            naive_datetime.parse_naive(state.finished_at)
        case _:
            raise IndexPartError(f"not an import state: {value!r}")
    naive_datetime.parse_naive(state.started_at)
    return state
