"""A job's work cut into batches that bound how much of the bucket is in memory. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from reattach.api.key import BLCKSZ, Key
from reattach.api.shard import ShardIdentity
from reattach.pageserver.import_pgdata.bucket import RangeRead
from reattach.pageserver.import_pgdata.plan import Job, RelBlocks, SingleKey
from reattach.pageserver.layers.blobs import Value
from reattach.pageserver.layers.local_blocks import local_runs


class PagesRead(NamedTuple):
    """Pages to read: `first` is the key of the first of them."""

    first: Key
    read: RangeRead


Item: TypeAlias = Value | PagesRead


@dataclass(slots=True)
class Batch:
    """Items in key order. `size`: bytes of all of them."""

    items: list[Item] = field(default_factory=list)
    size: int = 0


def make_batches(job: Job, shard: ShardIdentity, max_bytes: int) -> Iterator[Batch]:
    """What the job writes, in key order: no read is longer than `max_bytes`, nor is a batch.

    Only a single page or value may be. Pages that the shard does not keep are not read.
    """
    batch = Batch()
    for item, size in _items(job, shard, max(max_bytes // BLCKSZ, 1)):
        if batch.items and batch.size + size > max_bytes:
            yield batch
            batch = Batch()
        batch.items.append(item)
        batch.size += size
    if batch.items:
        yield batch


def writes_a_layer(job: Job, shard: ShardIdentity) -> bool:
    """Whether the job has anything that the shard keeps."""
    return next(_items(job, shard, 1), None) is not None


def _items(job: Job, shard: ShardIdentity, max_pages: int) -> Iterator[tuple[Item, int]]:
    for task in job.tasks:
        if isinstance(task, SingleKey):
            yield Value(task.key, task.value), len(task.value)
            continue
        start = task.keys.start
        if isinstance(task, RelBlocks):
            runs: Sequence[tuple[int, int]] = local_runs(shard, task.keys)
        else:
            runs = [(0, task.keys.end.field6)] if task.keys.end.field6 else []
        for run_first, run_end in runs:
            for first in range(run_first, run_end, max_pages):
                end = min(first + max_pages, run_end)
                offset = (first - start.field6) * BLCKSZ
                size = (end - first) * BLCKSZ
                read = RangeRead(task.source, offset, offset + size)
                key = start if first == start.field6 else start._replace(field6=first)
                yield PagesRead(key, read), size
