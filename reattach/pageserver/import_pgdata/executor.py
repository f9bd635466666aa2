"""Runs numbered jobs side by side and takes their results in order. Knows nothing of what a job does."""

from __future__ import annotations

import asyncio
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
    window = run_ahead_window(concurrency)
    finished: dict[int, asyncio.Event] = {}
    started, last_taken = completed, completed
    may_start = asyncio.Event()

    async def work() -> None:
        nonlocal started
        while started < jobs:
            if started >= last_taken + window:
                may_start.clear()
                await may_start.wait()
                continue
            # No await between the number and its job: whoever is cancelled first, no number is skipped.
            started += 1
            number = started
            await run(number)
            end_of(number).set()

    def end_of(number: int) -> asyncio.Event:
        return finished.setdefault(number, asyncio.Event())

    async with task_group() as group:
        for _ in range(min(concurrency, jobs - completed)):
            group.create_task(work())
        while last_taken < jobs:
            number = last_taken + 1
            await end_of(number).wait()
            del finished[number]
            await before_taking(number)
            if number % checkpoint_threshold == 0:
                await checkpoint(number)
            await after_taking(number)
            last_taken = number
            may_start.set()
