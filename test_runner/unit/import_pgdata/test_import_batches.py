"""Batches cover exactly what a shard keeps, within the limit; the byte budget never overdraws or blocks."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from reattach.api.key import BLCKSZ, KEY_MAX, KEY_MIN, Key, KeyRange, RelTag
from reattach.api.shard import ShardIdentity
from reattach.pageserver.import_pgdata.batches import make_batches
from reattach.pageserver.import_pgdata.bucket import RangeRead
from reattach.pageserver.import_pgdata.bucket_object import BucketObject
from reattach.pageserver.import_pgdata.budget import ByteBudget
from reattach.pageserver.import_pgdata.plan import Job, Task, Tasks
from reattach.pageserver.layers.key_arrays import key_of
from test_runner.unit.api.strategies import shards
from test_runner.unit.import_pgdata.listings import listings
from test_runner.unit.import_pgdata.test_import_planner import plan_of


@given(listings(), shards, st.integers(1, 100 * BLCKSZ))
def test_batches_read_what_the_shard_keeps_and_no_more(
    objects: list[BucketObject], shard: ShardIdentity, max_bytes: int
) -> None:
    """I8: each kept block once, from its place in its file. I12: no read and no batch above the limit."""
    # Whole segments take too long; their first blocks are as good.
    objects = [
        source._replace(size=min(source.size, 1 << 22))
        for source in objects
        if not source.path.endswith((".1", ".2"))
    ]
    for job in plan_of(objects, shard, 1 << 20).jobs:
        kept: list[tuple[Key, str, int]] = []
        for task in job.tasks:
            if isinstance(task.content, bytes):
                kept.append((task.first, "value", len(task.content)))
                continue
            for block in range(task.length):
                key = task.first.advance(block)
                if not shard.is_disposable(key):
                    kept.append((key, task.content.path, block * BLCKSZ))
        read: list[tuple[Key, str, int]] = []
        for batch in make_batches(job, shard, max_bytes):
            assert batch.size <= max(max_bytes, BLCKSZ) or len(batch.counts) == 1
            size = 0
            reads = iter(batch.reads)
            for number, (row, count) in enumerate(zip(batch.firsts, batch.counts.tolist(), strict=True)):
                key = key_of(row)
                if (value := batch.values.get(number)) is not None:
                    assert count == 1
                    read.append((key, "value", len(value)))
                    size += len(value)
                    continue
                source, first, end = next(reads)
                assert end - first == count * BLCKSZ <= max(max_bytes, BLCKSZ)
                read += [(key.advance(i), source.path, first + i * BLCKSZ) for i in range(count)]
                size += end - first
            assert next(reads, None) is None
            assert size == batch.size
        assert read == kept


def test_later_segments_are_read_from_their_own_start() -> None:
    """I8: block numbers go on from segment to segment, file offsets do not."""
    rel = RelTag(1663, 5, 7, 0)
    source = BucketObject("pgdata/base/5/7.1", 5 * BLCKSZ, '"v"')
    job = Job(KeyRange(KEY_MIN, KEY_MAX), Tasks.of([Task(rel.block(131072), 5, source)]))
    (batch,) = make_batches(job, ShardIdentity(), 1 << 20)
    assert [key_of(row) for row in batch.firsts] == [rel.block(131072)]
    assert batch.reads == [RangeRead(source, 0, 5 * BLCKSZ)]


@given(
    st.integers(1, 100),
    st.lists(st.lists(st.integers(0, 150), min_size=1, max_size=5), min_size=1, max_size=6),
    st.integers(0, 2**32),
)
def test_budget_is_kept_and_everyone_is_served(total: int, users: list[list[int]], seed: int) -> None:
    """I12, and no user waits for ever, cancelled neighbours or not."""
    rng = random.Random(seed)
    budget = ByteBudget(total)
    held = 0

    async def user(sizes: list[int]) -> None:
        nonlocal held
        for size in sizes:
            await budget.acquire(size)
            held += min(size, total)
            assert held <= total
            try:
                for _ in range(rng.randrange(3)):
                    await asyncio.sleep(0)
            finally:
                held -= min(size, total)
                budget.release(size)

    async def scenario() -> None:
        tasks = [asyncio.create_task(user(sizes)) for sizes in users]
        doomed = [asyncio.create_task(user(sizes)) for sizes in users]
        for task in doomed:
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        await asyncio.gather(*doomed, return_exceptions=True)
        assert budget.try_acquire(total), "all is given back"

    asyncio.run(scenario())


def test_nobody_overtakes_who_waits() -> None:
    async def scenario() -> None:
        budget = ByteBudget(10)
        assert budget.try_acquire(6)
        waiting = asyncio.create_task(budget.acquire(8))
        await asyncio.sleep(0)
        assert not budget.try_acquire(1)
        budget.release(6)
        await waiting
        assert budget.try_acquire(2)

    asyncio.run(scenario())
