"""Runs numbered jobs side by side and takes their results in order. Knows nothing of what a job does."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from reattach.pageserver.import_pgdata.tasks import task_group


def run_ahead_window(concurrency: int) -> int:
    """No job starts that is more than so many ahead of the last one taken.

    So at most `concurrency` jobs run and as many have finished and wait to be taken. What runs twice after
    an interruption is at most this window and the jobs taken since the last checkpoint.
    """
    return 2 * concurrency


async def execute(
    jobs: int,
    run: Callable[[int], Awaitable[None]],
    *,
    completed: int,
    concurrency: int,
    checkpoint_threshold: int,
    checkpoint: Callable[[int], Awaitable[None]],
    before_taking: Callable[[int], Awaitable[None]],
    after_taking: Callable[[int], Awaitable[None]],
) -> None:
    """Runs the jobs after `completed` up to number `jobs`; the first job is number 1.

    Each time a result is taken, `before_taking` is given the job's number first; if the number is a multiple
    of `checkpoint_threshold`, `checkpoint` is given it; then `after_taking` is. An error of any of
    them stops the rest, and is raised when they have ended; so does a cancellation.
    """
    permits = asyncio.Semaphore(concurrency)
    window = run_ahead_window(concurrency)

    async def start(number: int) -> None:
        async with permits:
            await run(number)

    async with task_group() as group:
        started: deque[asyncio.Task[None]] = deque()
        next_job = completed + 1
        for last in range(completed, jobs):
            while next_job <= min(jobs, last + window):
                started.append(group.create_task(start(next_job)))
                next_job += 1
            await started.popleft()
            taken = last + 1
            await before_taking(taken)
            if taken % checkpoint_threshold == 0:
                await checkpoint(taken)
            await after_taking(taken)
