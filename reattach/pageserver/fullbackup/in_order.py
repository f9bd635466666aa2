"""Working ahead: several pieces of work at a time, their results in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


async def in_order(
    jobs: AsyncGenerator[Job], work: Callable[[Job], Coroutine[Any, Any, Result]], ahead: int
) -> AsyncGenerator[tuple[Job, Result]]:
    """Each job with the result of `work`; at most `ahead` are under way or wait to be taken.

    When it is closed, no work is under way any more, and `jobs` is closed.
    """
    pending: deque[tuple[Job, asyncio.Task[Result]]] = deque()
    async with aclosing(jobs):
        try:
            async for job in jobs:
                pending.append((job, asyncio.create_task(work(job))))
                if len(pending) == ahead:
                    done, task = pending.popleft()
                    yield done, await task
            while pending:
                done, task = pending.popleft()
                yield done, await task
        finally:
            for _, task in pending:
                task.cancel()
            await asyncio.gather(*(task for _, task in pending), return_exceptions=True)
