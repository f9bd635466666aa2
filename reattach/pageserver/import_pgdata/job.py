"""One job: reads its part of the bucket and writes one image layer."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from reattach.api.key import BLCKSZ
from reattach.api.layer_name import LayerName
from reattach.api.lsn import Lsn
from reattach.pageserver.import_pgdata.batches import Batch, make_batches
from reattach.pageserver.import_pgdata.bucket import Bucket
from reattach.pageserver.import_pgdata.budget import ByteBudget
from reattach.pageserver.import_pgdata.config import ImportConfig
from reattach.pageserver.import_pgdata.errors import ImportInterrupted, ObjectError
from reattach.pageserver.import_pgdata.local_trouble import despite_local_trouble, open_layers
from reattach.pageserver.import_pgdata.page_checksums import first_bad_page
from reattach.pageserver.import_pgdata.plan import Job
from reattach.pageserver.import_pgdata.target import ImportTarget
from reattach.pageserver.import_pgdata.tasks import in_thread, io_threads, task_group
from reattach.pageserver.layers.blobs import Buffer, FramedBatch, frame
from reattach.pageserver.layers.image_layer_writer import ImageLayerWriter, WrittenLayer
from reattach.pageserver.layers.key_arrays import blocks_of, expand_runs

READ_AHEAD_BATCHES = 6
"""Batches of one job that may be on their way at a time."""

_EXTRA_RANGES = 4
T = TypeVar("T")
_temp_numbers = itertools.count(1)


def byte_budget(config: ImportConfig) -> ByteBudget:
    """For all jobs of an import: a range for each that runs, and some to read ahead."""
    ranges = config.import_job_concurrency + _EXTRA_RANGES
    return ByteBudget(ranges * config.import_job_max_byte_range_size)


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """The layer that a job wrote, if any, and whether it replaced one that the job had written before."""

    layer: LayerName | None
    ran_before: bool


@dataclass(frozen=True, slots=True)
class JobRunner:
    """What all jobs of an import share. `verify_checksums`: the pages have checksums, and they count."""

    target: ImportTarget
    bucket: Bucket
    config: ImportConfig
    lsn: Lsn
    verify_checksums: bool
    budget: ByteBudget

    async def run(self, job: Job) -> JobOutcome:
        """Writes the job's layer and hands it to the timeline; a job without values writes none.

        Begins anew after an error of the local disk. Raises ImportFailed if those do not end.
        """
        what = f"writing the layer of keys {job.keys.start} to {job.keys.end}"
        return await despite_local_trouble(what, self.config.local_patience, lambda: self._attempt(job))

    async def _attempt(self, job: Job) -> JobOutcome:
        async with open_layers():
            return await self._write_layer(job)

    async def _write_layer(self, job: Job) -> JobOutcome:
        if self.target.is_cancelling:
            raise ImportInterrupted("timeline is shutting down")
        name = LayerName(job.keys, self.lsn)
        temp_file = self.target.directory / f"{name}.{next(_temp_numbers):x}.___temp"
        try:
            layer = await self._write(
                job,
                ImageLayerWriter(
                    temp_file,
                    name,
                    self.target.tenant_shard_id.tenant_id,
                    self.target.timeline_id,
                    self.config.compression,
                ),
            )
            if layer is None:
                return JobOutcome(None, ran_before=False)
            replaced = await self.target.add_layer(layer.path, layer.name, layer.file_size, layer.checksum)
            return JobOutcome(layer.name, replaced)
        finally:
            temp_file.unlink(missing_ok=True)

    async def _write(self, job: Job, writer: ImageLayerWriter) -> WrittenLayer | None:
        # Batches are read and compressed side by side, and written in order.
        ahead: deque[tuple[asyncio.Task[FramedBatch], int]] = deque()

        async def write_oldest(write: Callable[[FramedBatch], T]) -> T:
            task, size = ahead[0]
            result = await in_thread(io_threads(), write, await task)
            ahead.popleft()
            self.budget.release(size)
            return result

        try:
            async with task_group() as group:
                for batch in make_batches(job, self.target.shard, self.config.import_job_max_byte_range_size):
                    if len(ahead) == READ_AHEAD_BATCHES:
                        await write_oldest(writer.append)
                    while not self.budget.try_acquire(batch.size):
                        if ahead:
                            await write_oldest(writer.append)
                        else:
                            await self.budget.acquire(batch.size)
                            break
                    ahead.append((group.create_task(self._load(batch)), batch.size))
                while len(ahead) > 1:
                    await write_oldest(writer.append)
                # Most layers of small imports have one batch, and a thread is asked once for it.
                return await write_oldest(writer.finish_with) if ahead else None
        finally:
            writer.discard()
            for _, size in ahead:
                self.budget.release(size)

    async def _load(self, batch: Batch) -> FramedBatch:
        return await self.bucket.map_ranges(batch.reads, partial(self._frame, batch))

    def _frame(self, batch: Batch, pages: Buffer) -> FramedBatch:
        if self.verify_checksums:
            _verify(batch, pages)
        return frame(batch.firsts, batch.counts, batch.values, pages, self.config.compression)


def _verify(batch: Batch, pages: Buffer) -> None:
    """Raises ObjectError, which names the block, for a relation's page with a wrong checksum."""
    is_read = np.ones(len(batch.counts), np.bool_)
    is_read[list(batch.values)] = False
    rows = np.flatnonzero(is_read & (batch.firsts[:, 0] == 0))
    if not len(rows):
        return
    counts = batch.counts[rows]
    # Relations come first.
    checked = memoryview(pages)[: int(counts.sum()) * BLCKSZ]
    blocks = blocks_of(expand_runs(batch.firsts[rows], counts))
    bad = first_bad_page(checked, blocks)
    if bad is not None:
        culprit = batch.reads[int(np.searchsorted(np.cumsum(counts), bad, side="right"))].source
        raise ObjectError(culprit.path, f"the checksum of block {blocks[bad]} of this relation is wrong")
