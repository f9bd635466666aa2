"""From what the bucket holds to the plan of one shard's import. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reattach.api.key import (
    BLCKSZ,
    CHECKPOINT_KEY,
    CONTROLFILE_KEY,
    DBDIR_KEY,
    KEY_MAX,
    KEY_MIN,
    RELSEG_BLOCKS,
    TWOPHASEDIR_KEY,
    Key,
    KeyRange,
    RelTag,
    reldir_key,
    relmap_key,
    slru_block_key,
    slru_dir_key,
    slru_segment_size_key,
)
from reattach.api.shard import ShardIdentity
from reattach.pageserver.import_pgdata import values
from reattach.pageserver.import_pgdata.control_file import ControlFile
from reattach.pageserver.import_pgdata.pgdata import PgData
from reattach.pageserver.import_pgdata.plan import Job, Plan, RelBlocks, SingleKey, SlruBlocks, Task
from reattach.pageserver.layers.local_blocks import count_local_blocks


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
    tasks = [*_relation_tasks(pgdata, relmaps)]
    if shard.number == 0:
        tasks += _slru_tasks(pgdata)
    tasks += [
        SingleKey(TWOPHASEDIR_KEY, values.EMPTY_TWOPHASE_DIR),
        SingleKey(CONTROLFILE_KEY, control_file.raw),
        SingleKey(CHECKPOINT_KEY, control_file.checkpoint),
    ]
    jobs = tuple(_group(tasks, shard, soft_size_limit))
    return Plan(jobs, control_file.base_lsn, shard, pgdata.sources())


def _relation_tasks(pgdata: PgData, relmaps: Mapping[str, bytes]) -> Iterator[Task]:
    yield SingleKey(DBDIR_KEY, values.dbdir_value(list(pgdata.databases)))
    for database, files in pgdata.databases.items():
        yield SingleKey(relmap_key(*database), relmaps[files.relmap.path])
        yield SingleKey(reldir_key(*database), values.reldir_value(files.forks))
        for (relnode, forknum), segments in files.forks.items():
            rel = RelTag(*database, relnode, forknum)
            for segment in segments:
                first = segment.segno * RELSEG_BLOCKS
                yield RelBlocks(rel.blocks(first, first + segment.blocks), segment.source)
            yield SingleKey(rel.size_key(), values.relsize_value(sum(s.blocks for s in segments)))


def _slru_tasks(pgdata: PgData) -> Iterator[Task]:
    for kind, segments in pgdata.slru.items():
        yield SingleKey(slru_dir_key(kind), values.slru_dir_value(s.segno for s in segments))
        for segno, source in segments:
            blocks = source.size // BLCKSZ
            keys = KeyRange(slru_block_key(kind, segno, 0), slru_block_key(kind, segno, blocks))
            yield SlruBlocks(keys, source)
            yield SingleKey(slru_segment_size_key(kind, segno), values.slru_segment_size_value(blocks))


def _group(tasks: list[Task], shard: ShardIdentity, soft_size_limit: int) -> Iterator[Job]:
    local_blocks = iter(count_local_blocks(shard, [t.keys for t in tasks if isinstance(t, RelBlocks)]))
    job_start: Key = KEY_MIN
    job_tasks: list[Task] = []
    size = 0
    for task in tasks:
        if isinstance(task, SingleKey):
            task_start, pages = task.key, 1
        else:
            task_start = task.keys.start
            pages = next(local_blocks) if isinstance(task, RelBlocks) else task.keys.end.field6
        if size + pages * BLCKSZ > soft_size_limit:
            yield Job(KeyRange(job_start, task_start), tuple(job_tasks))
            job_start, job_tasks, size = task_start, [], 0
        size += pages * BLCKSZ
        job_tasks.append(task)
    yield Job(KeyRange(job_start, KEY_MAX), tuple(job_tasks))
