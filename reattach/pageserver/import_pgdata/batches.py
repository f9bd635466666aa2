"""A job's work cut into batches that bound how much of the bucket is in memory. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from reattach.api.key import BLCKSZ
from reattach.api.shard import ShardIdentity
from reattach.pageserver.import_pgdata.bucket import RangeRead
from reattach.pageserver.import_pgdata.plan import PAGES, Job, cut
from reattach.pageserver.layers.key_arrays import Keys, Numbers, advanced, blocks_of
from reattach.pageserver.layers.local_blocks import local_runs


class Batch(NamedTuple):
    """Runs of keys, so many block by block from each of `firsts` on, in key order.

    values: by the number of the run that is the key of one. reads: where the pages of the other runs are, in
    their order. size: bytes of all of them.
    """

    firsts: Keys
    counts: Numbers
    values: dict[int, bytes]
    reads: list[RangeRead]
    size: int


def make_batches(job: Job, shard: ShardIdentity, max_bytes: int) -> Iterator[Batch]:
    """What the job writes, in key order: no read is longer than `max_bytes`, nor is a batch.

    Only a single page or value may be. Pages that the shard does not keep are not read.
    """
    tasks = job.tasks
    runs = local_runs(shard, tasks.firsts, tasks.counts)
    # A row for each piece of a run that is short enough.
    max_pages = max(max_bytes // BLCKSZ, 1)
    pieces = -(-(runs.end - runs.first) // max_pages)
    run = np.repeat(np.arange(len(pieces)), pieces)
    within = np.arange(len(run)) - (np.cumsum(pieces) - pieces)[run]
    first = runs.first[run] + within * max_pages
    counts = np.minimum(first + max_pages, runs.end[run]) - first
    owner = runs.owner[run]
    in_task = first - blocks_of(tasks.firsts)[owner]
    sizes = np.where(tasks.value_sizes[owner] == PAGES, counts * BLCKSZ, tasks.value_sizes[owner])
    firsts = advanced(tasks.firsts[owner], in_task)
    for start, end in cut(sizes, max_bytes):
        rows = slice(start, end)
        values: dict[int, bytes] = {}
        reads: list[RangeRead] = []
        of_rows = zip(owner[rows].tolist(), in_task[rows].tolist(), sizes[rows].tolist(), strict=True)
        for row, (task, page, size) in enumerate(of_rows):
            content = tasks.contents[task]
            if isinstance(content, bytes):
                values[row] = content
            else:
                reads.append(RangeRead(content, page * BLCKSZ, page * BLCKSZ + size))
        yield Batch(firsts[rows], counts[rows], values, reads, int(sizes[rows].sum()))


def writes_a_layer(job: Job, shard: ShardIdentity) -> bool:
    """Whether the job has anything that the shard keeps."""
    tasks = job.tasks
    return (
        bool((tasks.value_sizes != PAGES).any())
        or len(local_runs(shard, tasks.firsts, tasks.counts).owner) > 0
    )
