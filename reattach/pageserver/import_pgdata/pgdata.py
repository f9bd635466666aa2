"""What a listing of the bucket means: databases, relation forks, SLRU segments. Pure.

Refuses what could not be imported whole, and names the object that is to blame.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from reattach.api import pgdata_path
from reattach.api.key import BLCKSZ, RELSEG_BLOCKS, Fork, SlruKind
from reattach.pageserver.import_pgdata import contents, file_names
from reattach.pageserver.import_pgdata.bucket_object import BucketObject
from reattach.pageserver.import_pgdata.control_file import CONTROL_FILE_PATH
from reattach.pageserver.import_pgdata.errors import ObjectError, ObjectMissing
from reattach.pageserver.import_pgdata.file_names import GLOBAL, Database

SLRU_BLOCKS = 32
"""Blocks of a whole SLRU segment."""


Files: TypeAlias = list[tuple[str, BucketObject]]
"""The objects of one directory, each with its name there."""


class Segment(NamedTuple):
    """A segment file; `segno` counts from 0."""

    segno: int
    source: BucketObject

    @property
    def blocks(self) -> int:
        return self.source.size // BLCKSZ


@dataclass(frozen=True, slots=True)
class DatabaseFiles:
    """forks: the segments of each fork, by `(relnode, forknum)`."""

    relmap: BucketObject
    forks: dict[tuple[int, int], list[Segment]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PgData:
    """Everything is sorted: databases, forks, segments. warnings: of what is left out."""

    databases: dict[Database, DatabaseFiles]
    slru: dict[SlruKind, list[Segment]]
    control_file: BucketObject
    warnings: tuple[str, ...] = ()

    def sources(self) -> tuple[BucketObject, ...]:
        """Every object that an import depends on, sorted by path."""
        found = [self.control_file]
        for files in self.databases.values():
            found.append(files.relmap)
            found.extend(segment.source for segments in files.forks.values() for segment in segments)
        found.extend(segment.source for segments in self.slru.values() for segment in segments)
        return tuple(sorted(found))


def read_listing(objects: Iterable[BucketObject]) -> PgData:
    """Sorts out the objects of a data directory, in whatever order they are listed. Raises ObjectError."""
    directories: dict[str, Files] = {}
    for source in objects:
        directory, name = file_names.split_path(source.path)
        directories.setdefault(directory, []).append((name, source))
    in_databases: dict[Database, Files] = {GLOBAL: []}
    in_slru: dict[SlruKind, Files] = {kind: [] for kind in SlruKind}
    others: list[BucketObject] = []
    for directory, files in sorted(directories.items()):
        if (database := file_names.parse_database(directory)) is not None:
            if directory != database.directory:
                raise ObjectError(files[0][1].path, f"its directory should be named {database.directory!r}")
            in_databases[database] = files
        elif (kind := file_names.parse_slru_kind(directory)) is not None:
            in_slru[kind] = files
        else:
            others += [source for _, source in files]
    return PgData(
        databases={
            database: _database(database, in_databases[database]) for database in sorted(in_databases)
        },
        slru={kind: _slru_segments(files) for kind, files in in_slru.items()},
        control_file=_find(CONTROL_FILE_PATH, "pg_control", in_databases[GLOBAL]),
        warnings=tuple(contents.warnings(others)),
    )


def _database(database: Database, files: Files) -> DatabaseFiles:
    found = DatabaseFiles(_find(database.relmap_path, pgdata_path.RELMAP_NAME, files))
    relations = [
        (file, name, source)
        for name, source in files
        if (file := pgdata_path.parse_relation_file(name)) is not None
    ]
    for file, name, source in sorted(relations):
        if name != pgdata_path.relation_file_name(file) or file.relnode == 0:
            raise ObjectError(source.path, "not the name that Postgres gives to a relation file")
        _check_whole_blocks(source)
        segment = Segment(file.segno, source)
        segments = found.forks.get(file[:2])
        if segments is None:
            segments = found.forks[file[:2]] = []
        _check_follows(segment, segments)
        segments.append(segment)
    for (relnode, forknum), segments in found.forks.items():
        if forknum and (relnode, Fork.MAIN) not in found.forks:
            raise ObjectError(segments[0].source.path, f"the main fork of relation {relnode} is missing")
    return found


def _check_follows(segment: Segment, before: list[Segment]) -> None:
    path = segment.source.path
    if segment.segno != len(before):
        raise ObjectError(path, f"segment {len(before)} of this relation is missing")
    if segment.blocks > RELSEG_BLOCKS:
        raise ObjectError(path, f"{segment.blocks} blocks are more than a segment has")
    # Postgres leaves empty segments behind when it truncates, and reads none beyond the first short one.
    if before and segment.blocks and before[-1].blocks != RELSEG_BLOCKS:
        previous = before[-1]
        raise ObjectError(
            previous.source.path, f"has {previous.blocks} of {RELSEG_BLOCKS} blocks, but {path} follows"
        )


def _slru_segments(files: Files) -> list[Segment]:
    segments = [
        Segment(segno, source)
        for name, source in files
        if (segno := pgdata_path.parse_slru_segment(name)) is not None
    ]
    segments.sort()
    for first, second in pairwise(segments):
        if first.segno == second.segno:
            raise ObjectError(second.source.path, f"{first.source.path} is the same segment")
    for segment in segments:
        path = segment.source.path
        if not path.endswith(f"/{segment.segno:04X}"):
            raise ObjectError(path, f"Postgres would call this segment {segment.segno:04X}")
        _check_whole_blocks(segment.source)
        if segment.blocks > SLRU_BLOCKS:
            raise ObjectError(path, f"has {segment.blocks} blocks, a segment has {SLRU_BLOCKS} at most")
    return segments


def _check_whole_blocks(source: BucketObject) -> None:
    if source.size % BLCKSZ:
        raise ObjectError(source.path, f"its size {source.size} is not a multiple of {BLCKSZ}")


def _find(path: str, name: str, files: Files) -> BucketObject:
    found = next((source for candidate, source in files if candidate == name), None)
    if found is None:
        raise ObjectMissing(path)
    return found
