"""Keeping track of what runs, so that it can be ended for certain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class ScopeClosed(Exception):
    """What the work belongs to shuts down."""

    def __init__(self) -> None:
        super().__init__("shutting down")


class Scope:
    """The tasks and sections that belong to one owner. After `close` none of them is running."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sections = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._closed = False

    @property
    def is_closed(self) -> bool:
        return self._closed

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Runs `work` as a task of this scope. Raises ScopeClosed."""
        if self._closed:
            work.close()
            raise ScopeClosed
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` as a task of this scope and returns its result. Raises ScopeClosed if that ended it."""
        task = self.spawn(work)
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if task.cancelled() and current is not None and not current.cancelling():
                raise ScopeClosed from None
            raise

    @contextlib.contextmanager
    def section(self) -> Iterator[None]:
        """Code of someone else's task that `close` waits for. Raises ScopeClosed."""
        if self._closed:
            raise ScopeClosed
        self._sections += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._sections -= 1
            if self._sections == 0:
                self._empty.set()

    async def cancel_tasks(self) -> None:
        """Lets nothing new in and ends the tasks. Sections may still be under way."""
        self._closed = True
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Lets nothing new in, ends the tasks and waits for the sections."""
        await self.cancel_tasks()
        await self._empty.wait()


async def log_failure(what: str, work: Coroutine[Any, Any, object]) -> None:
    """Runs a background task to its end; an error of it is logged and goes no further."""
    try:
        await work
    except Exception:
        log.exception("%s failed", what)


_RESTART_SECONDS = 1.0


async def keep_running(what: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs something that should never end, and starts it again if an error ends it. Until cancelled."""
    while True:
        await log_failure(what, work())
        await asyncio.sleep(_RESTART_SECONDS)
