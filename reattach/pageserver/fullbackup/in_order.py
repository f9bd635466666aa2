"""Working ahead: several pieces of work at a time, their results in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


async def in_order(
    jobs: Iterable[Job], work: Callable[[Job], Coroutine[Any, Any, Result]], ahead: int
) -> AsyncGenerator[Result]:
    """The result of `work` for each job; at most `ahead` are under way or wait to be taken.

    When it is closed, no work is under way any more.
    """
    pending: deque[asyncio.Task[Result]] = deque()
    try:
        for job in jobs:
            pending.append(asyncio.create_task(work(job)))
            if len(pending) == ahead:
                yield await pending[0]
                pending.popleft()
        while pending:
            yield await pending[0]
            pending.popleft()
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
