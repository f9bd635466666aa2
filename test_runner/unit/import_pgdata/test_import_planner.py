"""The plan: complete, in key order, grouped by what the shard keeps; and its hash."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.api.key import (
    BLCKSZ,
    DBDIR_KEY,
    KEY_MAX,
    KEY_MIN,
    Key,
    KeyRange,
    RelTag,
    SlruKind,
    slru_block_key,
)
from reattach.api.lsn import Lsn
from reattach.api.shard import ShardIdentity
from reattach.pageserver.import_pgdata import values
from reattach.pageserver.import_pgdata.bucket_object import BucketObject
from reattach.pageserver.import_pgdata.file_names import Database
from reattach.pageserver.import_pgdata.pgdata import read_listing
from reattach.pageserver.import_pgdata.plan import Job, Plan, Task, Tasks, cut
from reattach.pageserver.import_pgdata.plan_hash import hash_jobs, plan_hash
from reattach.pageserver.import_pgdata.planner import make_plan
from test_runner.unit.api.strategies import keys, shards
from test_runner.unit.import_pgdata.listings import (
    CONTROL_FILE,
    RELMAP,
    control_file_with,
    listings,
    obj,
    relmaps_of,
    seeds,
)

# Multiples of a page, so that tasks fill a job exactly.
limits = st.one_of(
    st.integers(1, 20_000), st.integers(1, 300).map(lambda pages: pages * BLCKSZ), st.just(1 << 28)
)


def plan_of(objects: list[BucketObject], shard: ShardIdentity, limit: int = 256 << 20) -> Plan:
    return make_plan(read_listing(objects), CONTROL_FILE, relmaps_of(objects), shard, limit)


def tasks_of(plan: Plan) -> list[Task]:
    return [task for job in plan.jobs for task in job.tasks]


@given(listings(), shards, limits)
def test_jobs_cover_all_keys_without_a_gap_and_tasks_ascend(
    objects: list[BucketObject], shard: ShardIdentity, limit: int
) -> None:
    """I8: every key belongs to exactly one job."""
    plan = plan_of(objects, shard, limit)
    assert plan.jobs[0].keys.start == KEY_MIN
    assert plan.jobs[-1].keys.end == KEY_MAX
    assert all(a.keys.end == b.keys.start for a, b in pairwise(plan.jobs))
    assert all(a.end <= b.first for a, b in pairwise(tasks_of(plan)))
    for job in plan.jobs:
        assert all(job.keys.start <= task.first and task.end <= job.keys.end for task in job.tasks)


def pages_of(task: Task, shard: ShardIdentity) -> int:
    """How many of a task's pages a shard keeps. A segment may be empty."""
    if task.first.is_rel_block:
        return sum(end - first for first, end in shard.local_runs(KeyRange(task.first, task.end)))
    return 0 if shard.is_disposable(task.first) else task.length


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(0, 9))
def test_parts_are_those_of_adding_one_by_one(sizes: list[int], limit: int) -> None:
    """Filled to the limit, which only a part of one row may pass."""
    expected: list[list[int]] = []
    for size in sizes:
        if not expected or sum(expected[-1]) + size > limit:
            expected.append([])
        expected[-1].append(size)
    assert [sizes[first:end] for first, end in cut(np.array(sizes, np.int64), limit)] == expected


@given(listings(), shards, limits)
def test_grouping_is_that_of_adding_one_by_one(
    objects: list[BucketObject], shard: ShardIdentity, limit: int
) -> None:
    """A job ends before the task that would make it larger than the limit, by the shard's own pages."""
    plan = plan_of(objects, shard, limit)
    expected: list[list[Task]] = [[]]
    size = 0
    for task in tasks_of(plan):
        task_size = pages_of(task, shard) * BLCKSZ
        if size + task_size > limit:
            expected.append([])
            size = 0
        size += task_size
        expected[-1].append(task)
    assert [list(job.tasks) for job in plan.jobs] == expected


@given(listings(), st.integers(1, 6), st.integers(1, 400))
def test_shards_together_keep_every_block_once(objects: list[BucketObject], count: int, stripe: int) -> None:
    """I8: every block of every segment has a task on every shard that keeps some of it, SLRUs on shard 0."""
    for number in range(count):
        plan = plan_of(objects, ShardIdentity(number, count, stripe))
        written = {t.content for t in tasks_of(plan) if isinstance(t.content, BucketObject)}
        in_slru = [s for s in plan.sources if s.path.startswith(("pgdata/pg_xact", "pgdata/pg_multi"))]
        others = {s for s in plan.sources if not s.path.endswith(("pg_filenode.map", "pg_control"))}
        assert written == (others if number == 0 else others - set(in_slru))


def test_a_limit_below_one_page_makes_an_empty_first_job() -> None:
    plan = plan_of(small(), ShardIdentity(), limit=1)
    assert plan.jobs[0] == Job(KeyRange(KEY_MIN, KEY_MIN), Tasks.of([]))
    assert [len(job.tasks) for job in plan.jobs[1:4]] == [1, 1, 1]


def small() -> list[BucketObject]:
    return [
        obj("pgdata/global/pg_control", 1),
        BucketObject("pgdata/global/pg_filenode.map", len(RELMAP), '"m"'),
        BucketObject("pgdata/base/5/pg_filenode.map", len(RELMAP), '"m"'),
        obj("pgdata/base/5/16384", 2),
        obj("pgdata/base/5/16384_fsm", 3),
        obj("pgdata/pg_xact/0000", 1),
        obj("pgdata/pg_multixact/offsets/000A", 0),
    ]


def test_every_task_of_a_small_directory() -> None:
    rel, fsm = RelTag(1663, 5, 16384, 0), RelTag(1663, 5, 16384, 1)
    by_path = {source.path: source for source in small()}
    size_key = 0xFFFFFFFF
    expected: list[Task] = [
        Task(DBDIR_KEY, 1, struct.pack(">QII?II?", 2, 1663, 5, True, 1664, 0, True)),
        Task(Key(0, 1663, 5, 0, 0, 0), 1, RELMAP),
        Task(Key(0, 1663, 5, 0, 0, 1), 1, struct.pack(">QIBIB", 2, 16384, 0, 16384, 1)),
        Task(rel.block(0), 2, by_path["pgdata/base/5/16384"]),
        Task(rel.size_key(), 1, struct.pack("<Q", 2)),
        Task(fsm.block(0), 3, by_path["pgdata/base/5/16384_fsm"]),
        Task(fsm.size_key(), 1, struct.pack("<Q", 3)),
        Task(Key(0, 1664, 0, 0, 0, 0), 1, RELMAP),
        Task(Key(0, 1664, 0, 0, 0, 1), 1, bytes(8)),
        Task(Key(1, 0, 0, 0, 0, 0), 1, struct.pack(">QI", 1, 0)),
        Task(Key(1, 0, 1, 0, 0, 0), 1, by_path["pgdata/pg_xact/0000"]),
        Task(Key(1, 0, 1, 0, 0, size_key), 1, struct.pack("<I", 1)),
        Task(Key(1, 1, 0, 0, 0, 0), 1, bytes(8)),
        Task(Key(1, 2, 0, 0, 0, 0), 1, struct.pack(">QI", 1, 10)),
        Task(
            Key(1, 2, 1, 10, 0, 0),
            0,
            by_path["pgdata/pg_multixact/offsets/000A"],
        ),
        Task(Key(1, 2, 1, 10, 0, size_key), 1, bytes(4)),
        Task(Key(2, 0, 0, 0, 0, 0), 1, bytes(8)),
        Task(Key(3, 0, 0, 0, 0, 0), 1, CONTROL_FILE.raw),
        Task(Key(3, 0, 0, 0, 0, 1), 1, CONTROL_FILE.raw[40:128]),
    ]
    assert tasks_of(plan_of(small(), ShardIdentity())) == expected


def test_size_of_a_fork_counts_all_its_segments() -> None:
    big = [
        *small(),
        obj("pgdata/base/5/9", 131072),
        obj("pgdata/base/5/9.1", 131072),
        obj("pgdata/base/5/9.2", 7),
    ]
    rel = RelTag(1663, 5, 9, 0)
    tasks = {task.first: task for task in tasks_of(plan_of(big, ShardIdentity()))}
    assert tasks[rel.size_key()].content == (2 * 131072 + 7).to_bytes(8, "little")
    assert tasks[rel.block(262144)].length == 7


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 3)), unique=True))
def test_directories_do_not_depend_on_the_order(forks: list[tuple[int, int]]) -> None:
    """I1: the real system's order is random; ours is sorted, so the value depends on the bucket alone."""
    assert values.reldir_value(forks) == values.reldir_value(forks[::-1])
    assert len(values.reldir_value(forks)) == 8 + 5 * len(forks)
    databases = [Database(1663, relnode) for relnode, _ in forks]
    assert values.dbdir_value(databases) == values.dbdir_value(databases[::-1])
    assert len(values.dbdir_value(databases)) == 8 + 9 * len(databases)


@given(listings(), shards, limits, seeds)
def test_the_plan_does_not_depend_on_the_listing_order(
    objects: list[BucketObject], shard: ShardIdentity, limit: int, seed: int
) -> None:
    """I1"""
    first = plan_of(objects, shard, limit)
    random.Random(seed).shuffle(objects)
    assert plan_of(objects, shard, limit) == first


_HASH_IN_PROCESS = """
import random, sys
from reattach.api.shard import ShardIdentity
from reattach.pageserver.import_pgdata.plan_hash import plan_hash
from test_runner.unit.import_pgdata.listings import listings, obj, RELMAP
from test_runner.unit.import_pgdata.test_import_planner import plan_of
from reattach.pageserver.import_pgdata.bucket_object import BucketObject
objects = [obj("pgdata/global/pg_control", 1), BucketObject("pgdata/global/pg_filenode.map", 524, "m")]
for database in range(1, 20):
    objects.append(BucketObject(f"pgdata/base/{database}/pg_filenode.map", 524, "m"))
    objects += [obj(f"pgdata/base/{database}/{relation}", relation % 7) for relation in range(1, 30)]
objects += [obj(f"pgdata/pg_xact/{segment:04X}", 3) for segment in range(20)]
random.shuffle(objects)
for shard in (ShardIdentity(), ShardIdentity(1, 3, 2)):
    print(plan_hash(plan_of(objects, shard, 100_000)), hash(("seed", 1)) % 1000)
"""


def test_the_hash_is_the_same_in_every_process() -> None:
    """I1: with hash randomisation on."""
    outputs = set()
    path = os.pathsep.join(part or "." for part in sys.path)
    for seed in ("0", "1", "random"):
        run = subprocess.run(
            [sys.executable, "-c", _HASH_IN_PROCESS],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        outputs.add(tuple(line.split()[0] for line in run.stdout.splitlines()))
    assert len(outputs) == 1
    assert len(next(iter(outputs))) == 2


VECTOR = (
    Task(DBDIR_KEY, 1, bytes(17)),
    Task(RelTag(1663, 5, 16384, 0).block(0), 2, obj("pgdata/base/5/16384", 2)),
    Task(slru_block_key(SlruKind.CLOG, 0, 0), 1, obj("pgdata/pg_xact/0000", 1)),
)


def job_of(tasks: Iterable[Task]) -> Job:
    return Job(KeyRange(KEY_MIN, KEY_MAX), Tasks.of(tasks))


def test_hash_vector() -> None:
    assert hash_jobs([job_of(VECTOR)], Lsn(0x1500028), ShardIdentity()) == 0x4F9CCE18C695811B


@given(keys, keys, st.integers(0, 2), st.data())
def test_any_change_changes_the_hash(start: Key, end: Key, which: int, data: st.DataObject) -> None:
    """I1, I5: of a key range, a path, a value's length, a job's border, the LSN, the shard."""
    job, lsn, shard = job_of(VECTOR), Lsn(0x1500028), ShardIdentity(0, 1)
    before = hash_jobs([job], lsn, shard)
    assert hash_jobs([job], lsn + 8, shard) != before
    assert hash_jobs([job], lsn, ShardIdentity(0, 2)) != before
    assert hash_jobs([job._replace(keys=KeyRange(start, end))], lsn, shard) != before
    assert hash_jobs([job, Job(KeyRange(KEY_MAX, KEY_MAX), Tasks.of([]))], lsn, shard) != before
    tasks = list(VECTOR)
    task = tasks[which]
    if which == 0:
        task = task._replace(content=bytes(data.draw(st.integers(0, 100).filter(lambda n: n != 17))))
    elif data.draw(st.booleans()):
        length = data.draw(st.integers(0, 0xFFFFFFFF - start.field6))
        task = task._replace(first=start, length=length)
    else:
        path = data.draw(st.text("abc/", min_size=1).map(lambda t: t.strip("/") or "a"))
        task = task._replace(content=obj(path, 1))
    tasks[which] = task
    assert hash_jobs([job_of(tasks)], lsn, shard) != before


def test_values_sizes_and_stripes_alone_do_not_change_the_hash() -> None:
    """As documented: lengths of values count, not their bytes; the stripe size only moves borders."""
    job, lsn = job_of(VECTOR), Lsn(0x1500028)
    before = hash_jobs([job], lsn, ShardIdentity(0, 1, 2048))
    assert hash_jobs([job], lsn, ShardIdentity(0, 1, 1)) == before
    tasks = (Task(DBDIR_KEY, 1, b"x" * 17), *VECTOR[1:])
    assert hash_jobs([job_of(tasks)], lsn, ShardIdentity(0, 1, 2048)) == before


def test_the_plan_hash_sees_the_checkpoint_lsn() -> None:
    listing = read_listing(small())
    plans = [
        make_plan(listing, control_file_with(lsn), relmaps_of(small()), ShardIdentity(), 1 << 20)
        for lsn in (0x1500028, 0x1500030)
    ]
    assert plan_hash(plans[0]) != plan_hash(plans[1])


def test_planning_many_relations_is_linear() -> None:
    """Thousands of small relations must not make planning quadratic."""

    def seconds(relations: int) -> float:
        objects = small() + [obj(f"pgdata/base/5/{20_000 + i}", 3) for i in range(relations)]
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            plan_hash(plan_of(objects, ShardIdentity(1, 4, 2)))
            best = min(best, time.process_time() - began)
        return best

    assert seconds(8000) < 3 * 8 * max(seconds(1000), 0.005)


@pytest.mark.parametrize("shard", [ShardIdentity(), ShardIdentity(1, 4)])
def test_keys_of_tasks_can_bound_layers(shard: ShardIdentity) -> None:
    for job in plan_of(small(), shard, 1).jobs:
        assert all(key.field2 <= 0xFFFF or key.field2 == 0xFFFFFFFF for key in job.keys)
