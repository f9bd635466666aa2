"""From what the bucket holds to the plan of one shard's import. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np

from reattach.api.key import (
    BLCKSZ,
    CHECKPOINT_KEY,
    CONTROLFILE_KEY,
    DBDIR_KEY,
    KEY_MAX,
    KEY_MIN,
    RELSEG_BLOCKS,
    SIZE_FIELD,
    TWOPHASEDIR_KEY,
    Key,
    KeyRange,
    reldir_key,
    relmap_key,
    slru_block_key,
    slru_dir_key,
    slru_segment_size_key,
)
from reattach.api.shard import ShardIdentity
from reattach.pageserver.import_pgdata import values
from reattach.pageserver.import_pgdata.control_file import ControlFile
from reattach.pageserver.import_pgdata.file_names import Database
from reattach.pageserver.import_pgdata.pgdata import DatabaseFiles, PgData
from reattach.pageserver.import_pgdata.plan import PAGES, Content, Job, Plan, Task, Tasks, cut
from reattach.pageserver.layers.key_arrays import key_of, rel_keys
from reattach.pageserver.layers.local_blocks import local_runs


def make_plan(
    pgdata: PgData,
    control_file: ControlFile,
    relmaps: Mapping[str, bytes],
    shard: ShardIdentity,
    soft_size_limit: int,
) -> Plan:
    """The jobs of a shard, each meant to have at most `soft_size_limit` bytes of pages.

    `relmaps` are the contents of the `pg_filenode.map` of every database, by path.
    The same arguments give the same plan.
    """
    parts = [Tasks.of([_value(DBDIR_KEY, values.dbdir_value(list(pgdata.databases)))])]
    for database, files in pgdata.databases.items():
        relmap, reldir = relmaps[files.relmap.path], values.reldir_value(files.forks)
        parts.append(Tasks.of([_value(relmap_key(*database), relmap), _value(reldir_key(*database), reldir)]))
        parts.append(_relation_tasks(database, files))
    if shard.number == 0:
        parts.append(Tasks.of(_slru_tasks(pgdata)))
    rest = [
        _value(TWOPHASEDIR_KEY, values.EMPTY_TWOPHASE_DIR),
        _value(CONTROLFILE_KEY, control_file.raw),
        _value(CHECKPOINT_KEY, control_file.checkpoint),
    ]
    jobs = tuple(_group(Tasks.join([*parts, Tasks.of(rest)]), shard, soft_size_limit))
    return Plan(jobs, control_file.base_lsn, shard, pgdata.sources())


def _value(key: Key, value: bytes) -> Task:
    return Task(key, 1, value)


def _relation_tasks(database: Database, files: DatabaseFiles) -> Tasks:
    """Every segment of a fork, then the fork's size."""
    relnodes, forks, segnos, blocks = files.segments.T
    starts = files.fork_starts
    sizes = np.add.reduceat(blocks, starts) if len(starts) else blocks
    # A row for each segment, and one more behind the last of a fork.
    is_last = np.zeros(len(blocks), np.int64)
    is_last[np.append(starts, len(blocks))[1:] - 1] = 1
    of_segment = np.repeat(np.arange(len(blocks)), 1 + is_last)
    size_rows = np.cumsum(1 + is_last)[is_last == 1] - 1
    is_size = np.zeros(len(of_segment), np.bool_)
    is_size[size_rows] = True
    firsts = rel_keys(
        database.spcnode,
        database.dbnode,
        relnodes[of_segment],
        forks[of_segment],
        np.where(is_size, SIZE_FIELD, segnos[of_segment] * RELSEG_BLOCKS),
    )
    contents: list[Content] = list(map(files.sources.__getitem__, of_segment.tolist()))
    for row, size in zip(size_rows.tolist(), sizes.tolist(), strict=True):
        contents[row] = values.relsize_value(size)
    return Tasks(
        firsts,
        np.where(is_size, 1, blocks[of_segment]),
        np.where(is_size, values.RELSIZE_SIZE, PAGES),
        contents,
    )


def _slru_tasks(pgdata: PgData) -> Iterator[Task]:
    for kind, segments in pgdata.slru.items():
        yield _value(slru_dir_key(kind), values.slru_dir_value(s.segno for s in segments))
        for segment in segments:
            segno, blocks = segment.segno, segment.blocks
            yield Task(slru_block_key(kind, segno, 0), blocks, segment.source)
            yield _value(slru_segment_size_key(kind, segno), values.slru_segment_size_value(blocks))


def _group(tasks: Tasks, shard: ShardIdentity, soft_size_limit: int) -> Iterator[Job]:
    runs = local_runs(shard, tasks.firsts, tasks.counts)
    pages = np.bincount(runs.owner, weights=runs.end - runs.first, minlength=len(tasks)).astype(np.int64)
    sizes = pages * BLCKSZ
    parts = list(cut(sizes, soft_size_limit))
    if sizes[0] > soft_size_limit:
        # A job ends before the task that is too much for it, also if it has none.
        parts.insert(0, (0, 0))
    borders = [KEY_MIN, *(key_of(tasks.firsts[first]) for first, _ in parts[1:]), KEY_MAX]
    for (first, end), keys in zip(parts, pairwise(borders), strict=True):
        yield Job(KeyRange(*keys), tasks.part(first, end))
