"""Bringing shards' locations to their intent: one task per shard that needs it, until nothing is left."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from reattach.api.controller import ShardSchedulingPolicy
from reattach.api.ids import TenantShardId
from reattach.runtime.backoff import WARN_AFTER_SOON, soon
from reattach.runtime.errors import ApiError, cause_chain
from reattach.runtime.logs import span
from reattach.storage_controller.background import Background
from reattach.storage_controller.core.model import Shard
from reattach.storage_controller.core.reconcile_plan import next_step
from reattach.storage_controller.db.shards import ShardNotAttachable
from reattach.storage_controller.locations import Locations, ReconcileError
from reattach.storage_controller.metrics import Metrics
from reattach.storage_controller.pageserver_client import PageserverError
from reattach.storage_controller.state import State

log = logging.getLogger(__name__)

EXPECTED_ERRORS = (PageserverError, ReconcileError, ShardNotAttachable, ApiError)

Waiter = asyncio.Future[None]
"""Done when a pass that began after the request has ended; raises what the pass raised."""


@dataclass(slots=True)
class _Job:
    """A shard on its way. `requested` counts requests, so that a pass knows which ones it served."""

    task: asyncio.Task[None] | None = None
    requested: int = 0
    waiters: list[tuple[int, Waiter]] = field(default_factory=list)
    attempt: asyncio.Task[None] | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    since: float = field(default_factory=time.monotonic)

    def settle(self, served: int, error: Exception | None) -> None:
        remaining = []
        for sequence, waiter in self.waiters:
            if sequence > served:
                remaining.append((sequence, waiter))
            elif not waiter.done():
                if error is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(error)
        self.waiters = remaining


def _retrieved(waiter: Waiter) -> None:
    """Not everybody who asks for a reconcile waits for it: an unread failure is in the log anyway."""
    if not waiter.cancelled():
        waiter.exception()


class Reconciler:
    def __init__(
        self,
        state: State,
        locations: Locations,
        background: Background,
        metrics: Metrics,
        *,
        concurrency: int,
        long_threshold: float,
    ) -> None:
        self._state = state
        self._locations = locations
        self._background = background
        self._metrics = metrics
        self._slots = asyncio.Semaphore(concurrency)
        self._jobs: dict[TenantShardId, _Job] = {}
        self._long_threshold = long_threshold
        self.retry_delay: Callable[[int], float] = soon

    def is_running(self, shard: TenantShardId) -> bool:
        return shard in self._jobs

    @property
    def running(self) -> list[TenantShardId]:
        return list(self._jobs)

    def needs(self, shard: Shard) -> bool:
        return (
            shard.scheduling is not ShardSchedulingPolicy.STOP
            and next_step(shard, self._state.available) is not None
        )

    def request(self, shard: Shard, *, interrupt: bool = False) -> Waiter | None:
        """Starts a reconcile, or has the running one look again. None if there is nothing to do.

        interrupt: what the shard is on its way to no longer counts.
        """
        job = self._jobs.get(shard.id)
        if shard.scheduling is ShardSchedulingPolicy.STOP:
            log.info("Skipping reconcile for policy Stop: %s", shard.id)
            return None
        if job is None:
            if not self.needs(shard):
                return None
            job = self._jobs[shard.id] = _Job()
            self._metrics.reconcile_spawn.inc()
            self._metrics.pending_reconciles.set(len(self._jobs))
            job.task = self._background.spawn(self._run(shard, job), f"reconcile {shard.id}")
        elif interrupt and job.attempt is not None:
            job.attempt.cancel()
        job.requested += 1
        job.wake.set()
        waiter: Waiter = asyncio.get_running_loop().create_future()
        waiter.add_done_callback(_retrieved)
        job.waiters.append((job.requested, waiter))
        return waiter

    async def forget(self, shard: TenantShardId) -> None:
        """Ends the shard's reconcile, if one runs."""
        job = self._jobs.get(shard)
        if job is not None and job.task is not None:
            job.task.cancel()
            await asyncio.wait([job.task])

    def removed(self, shard: TenantShardId) -> None:
        """The shard is gone for good."""
        self._locations.forget(shard)

    async def wait_idle(self, timeout: float) -> bool:
        """Whether no reconcile was running at some moment within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self._jobs:
            tasks = [job.task for job in self._jobs.values() if job.task is not None]
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            await asyncio.wait(tasks, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
        return True

    async def _run(self, shard: Shard, job: _Job) -> None:
        failures = 0
        status = "ok"
        try:
            with span("reconciler", tenant_shard_id=shard.id):
                while self.needs(shard) or job.waiters:
                    served = job.requested
                    job.wake.clear()
                    try:
                        interrupted = await self._attempt(shard, job)
                    except EXPECTED_ERRORS as e:
                        status = "error"
                        failures += 1
                        self._report(shard, job, e, failures)
                        job.settle(served, e)
                        await self._pause(job, self.retry_delay(failures))
                        continue
                    if not interrupted:
                        status, shard.last_error, failures = "ok", "", 0
                        job.settle(served, None)
        except asyncio.CancelledError:
            status = "cancel"
            raise
        finally:
            job.settle(job.requested, ReconcileError("the reconcile was cancelled"))
            del self._jobs[shard.id]
            self._metrics.reconcile_complete.labels(status).inc()
            self._metrics.pending_reconciles.set(len(self._jobs))

    async def _attempt(self, shard: Shard, job: _Job) -> bool:
        """One pass. True if it was interrupted because intent changed. Raises EXPECTED_ERRORS."""
        async with self._slots:
            attempt = job.attempt = asyncio.create_task(self._pass(shard))
            try:
                await asyncio.wait([attempt])
            finally:
                job.attempt = None
                if not attempt.done():
                    attempt.cancel()
                    await asyncio.wait([attempt])
        if attempt.cancelled():
            return True
        attempt.result()
        return False

    async def _pass(self, shard: Shard) -> None:
        await self._locations.refresh(shard)
        while (step := next_step(shard, self._state.available)) is not None:
            await self._locations.apply(shard, step)
        await self._locations.epilogue()

    def _report(self, shard: Shard, job: _Job, error: Exception, failures: int) -> None:
        shard.last_error = cause_chain(error)
        level = logging.WARNING if failures >= WARN_AFTER_SOON else logging.INFO
        log.log(level, "Reconcile error: %s", shard.last_error)
        if time.monotonic() - job.since > self._long_threshold:
            log.warning("Shard reconciliation is stuck: %s", shard.id)

    @staticmethod
    async def _pause(job: _Job, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await job.wake.wait()
        except TimeoutError:
            pass
