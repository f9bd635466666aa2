"""Running things side by side so that nothing of them is left behind."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from reattach.runtime.tasks import from_thread

T = TypeVar("T")

_IO_THREADS = 4


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group whose first error is raised as itself, after all its tasks have ended."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def run_all(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Every result, in order. The first error stops the rest."""
    async with task_group() as group:
        tasks = [group.create_task(each) for each in work]
    return [task.result() for task in tasks]


@functools.cache
def cpu_threads() -> ThreadPoolExecutor:
    """As many threads as there are processors, for work that needs no interpreter lock."""
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)), "import-cpu")


@functools.cache
def io_threads() -> ThreadPoolExecutor:
    """A few threads for work that may wait for a disk."""
    return ThreadPoolExecutor(_IO_THREADS, "import-io")


async def in_thread(threads: ThreadPoolExecutor, work: Callable[..., T], *args: Any) -> T:
    """Runs `work` in one of the threads. When cancelled, returns only after the work has ended."""
    return await from_thread(threads.submit(work, *args))
