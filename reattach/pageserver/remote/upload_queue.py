"""Runs a timeline's uploads as soon as their order allows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from reattach.pageserver.remote.upload_order import Operation, UploadOrder

log = logging.getLogger(__name__)

S = TypeVar("S")


class QueueStopped(Exception):
    """The timeline shuts down; what was queued will not be uploaded."""

    def __init__(self) -> None:
        super().__init__("queue is in state Stopped")


class UploadQueue(Generic[S]):
    """`perform` carries out one operation. It retries whatever may succeed later, so that an exception of it
    is final: it stops the queue, and whoever waits gets the exception."""

    def __init__(self, perform: Callable[[Operation[S]], Awaitable[None]]) -> None:
        self._perform = perform
        self._order: UploadOrder[S] = UploadOrder()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._stopped: Exception | None = None

    @property
    def is_empty(self) -> bool:
        return len(self._order) == 0

    def push(self, operation: Operation[S]) -> None:
        """Raises QueueStopped, or the error that stopped the queue."""
        if self._stopped is not None:
            raise self._stopped
        self._order.push(operation)
        self._pump()

    async def wait_completion(self) -> None:
        """Returns when everything pushed before is done. Raises like `push`."""
        if self._stopped is not None:
            raise self._stopped
        ticket = self._order.last_ticket
        if self._order.done_up_to(ticket):
            return
        future = asyncio.get_running_loop().create_future()
        self._waiters.append((ticket, future))
        await future

    async def stop(self, drain_seconds: float) -> None:
        """Takes no more work, then ends. No upload is under way when it returns.

        What was pushed has `drain_seconds` to finish; what is queued or runs after that is dropped.
        """
        if self._stopped is None and drain_seconds > 0:
            drained = asyncio.ensure_future(self.wait_completion())
            await asyncio.wait({drained}, timeout=drain_seconds)
            if not drained.done():
                log.info("dropping %d unfinished uploads", len(self._order))
            drained.cancel()
            await asyncio.gather(drained, return_exceptions=True)
        self._halt(QueueStopped())
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _pump(self) -> None:
        for ticket in self._order.startable():
            operation = self._order.start(ticket)
            task = asyncio.create_task(self._run(ticket, operation))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, ticket: int, operation: Operation[S]) -> None:
        try:
            await self._perform(operation)
        except Exception as e:
            log.exception("%s can never be done, stopping the upload queue", type(operation).__name__)
            self._halt(e)
            return
        self._order.finish(ticket)
        if self._stopped is None:
            self._wake()
            self._pump()

    def _wake(self) -> None:
        still_waiting = []
        for ticket, future in self._waiters:
            if not self._order.done_up_to(ticket):
                still_waiting.append((ticket, future))
            elif not future.done():
                future.set_result(None)
        self._waiters = still_waiting

    def _halt(self, reason: Exception) -> None:
        if self._stopped is None:
            self._stopped = reason
        self._order.drop_queued()
        for _, future in self._waiters:
            if not future.done():
                future.set_exception(self._stopped)
        self._waiters = []
