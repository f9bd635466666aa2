"""What a listing of the bucket means: databases, relation forks, SLRU segments. Pure.

Refuses what could not be imported whole, and names the object that is to blame.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, pairwise
from operator import attrgetter
from typing import NamedTuple, TypeAlias

import numpy as np

from reattach.api import pgdata_path
from reattach.api.key import BLCKSZ, RELSEG_BLOCKS, Fork, SlruKind
from reattach.pageserver.import_pgdata import contents, file_names
from reattach.pageserver.import_pgdata.bucket_object import BucketObject
from reattach.pageserver.import_pgdata.control_file import CONTROL_FILE_PATH
from reattach.pageserver.import_pgdata.errors import ObjectError, ObjectMissing
from reattach.pageserver.import_pgdata.file_names import GLOBAL, Database
from reattach.pageserver.layers.key_arrays import Numbers

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


@dataclass(frozen=True, slots=True, eq=False)
class DatabaseFiles:
    """Relations' segment files in the order of their keys, as columns: there may be many thousands.

    segments: relation, fork, segment number and blocks of each, shape (n, 4). sources: the objects.
    """

    relmap: BucketObject
    segments: Numbers
    sources: list[BucketObject]

    @property
    def fork_starts(self) -> Numbers:
        """The row of each fork's first segment."""
        forks = self.segments[:, :2]
        begins = (forks[1:] != forks[:-1]).any(axis=1)
        return np.flatnonzero(np.append(True, begins)[: len(forks)])

    @property
    def forks(self) -> list[tuple[int, int]]:
        """`(relnode, forknum)` of each fork."""
        return [(relnode, fork) for relnode, fork in self.segments[self.fork_starts, :2].tolist()]

    def main_fork(self, relnode: int) -> Segment | None:
        """The first segment of a relation's main fork; None if there is no such relation."""
        row = int(np.searchsorted(self.segments[:, 0], relnode))
        if row == len(self.sources) or self.segments[row, 0] != relnode:
            return None
        return Segment(0, self.sources[row])


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
            found.extend(files.sources)
        found.extend(segment.source for segments in self.slru.values() for segment in segments)
        return tuple(sorted(found, key=attrgetter("path")))


def read_listing(objects: Iterable[BucketObject]) -> PgData:
    """Sorts out the objects of a data directory, in whatever order they are listed. Raises ObjectError."""
    directories: dict[str, Files] = {}
    for source in objects:
        directory, slash, name = source.path.rpartition("/")
        directories.setdefault(directory + slash, []).append((name, source))
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
    relmap = _find(database.relmap_path, pgdata_path.RELMAP_NAME, files)
    relations = [
        (file, name, source)
        for name, source in files
        if (file := pgdata_path.parse_relation_file(name)) is not None
    ]
    numbers = chain.from_iterable(file for file, _, _ in relations)
    columns = np.fromiter(numbers, np.int64, 3 * len(relations)).reshape(-1, 3).T
    order = np.lexsort(columns[::-1])
    sources: list[BucketObject] = []
    for _, name, source in map(relations.__getitem__, order.tolist()):
        if name.startswith("0") or ".0" in name:
            raise ObjectError(source.path, "not the name that Postgres gives to a relation file")
        _check_whole_blocks(source)
        sources.append(source)
    blocks = np.fromiter((source.size for source in sources), np.int64, len(sources)) // BLCKSZ
    segments = np.column_stack([*columns[:, order], blocks])
    found = DatabaseFiles(relmap, segments, sources)
    _check_segments(found)
    return found


def _check_segments(files: DatabaseFiles) -> None:
    """Raises ObjectError for the first that cannot be, all being looked at at once."""
    sources = files.sources
    relnodes, forks, segnos, blocks = files.segments.T
    starts = files.fork_starts
    expected = np.arange(len(segnos)) - np.repeat(starts, np.diff(starts, append=len(segnos)))
    before = np.append(0, blocks)[:-1]
    misses = segnos != expected
    too_long = blocks > RELSEG_BLOCKS
    # Postgres leaves empty segments behind when it truncates, and reads none beyond the first short one.
    too_short = (expected > 0) & (blocks > 0) & (before != RELSEG_BLOCKS)
    for row in np.flatnonzero(misses | too_long | too_short).tolist():
        path = sources[row].path
        if misses[row]:
            raise ObjectError(path, f"segment {expected[row]} of this relation is missing")
        if too_long[row]:
            raise ObjectError(path, f"{blocks[row]} blocks are more than a segment has")
        raise ObjectError(
            sources[row - 1].path, f"has {before[row]} of {RELSEG_BLOCKS} blocks, but {path} follows"
        )
    is_first = np.append(True, relnodes[1:] != relnodes[:-1])[: len(relnodes)]
    for row in np.flatnonzero(is_first & (forks != Fork.MAIN)).tolist():
        raise ObjectError(sources[row].path, f"the main fork of relation {relnodes[row]} is missing")


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
