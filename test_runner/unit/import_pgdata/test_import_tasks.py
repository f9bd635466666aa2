"""Side by side, with nothing left behind."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from reattach.pageserver.import_pgdata.tasks import in_thread, run_all, task_group


def test_cancelling_waits_for_the_thread() -> None:
    """Whoever cancels takes away what the thread works on, so it must have ended."""
    began, ended = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        time.sleep(0.1)
        ended.set()

    async def scenario() -> None:
        with ThreadPoolExecutor(1) as threads:
            running = asyncio.create_task(in_thread(threads, work))
            queued = asyncio.create_task(in_thread(threads, pytest.fail, "cancelled before it began"))
            while not began.is_set():
                await asyncio.sleep(0.001)
            queued.cancel()
            running.cancel()
            await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert ended.is_set()
            with pytest.raises(asyncio.CancelledError):
                await queued

    asyncio.run(scenario())


def test_the_first_error_is_raised_as_itself_and_the_rest_is_stopped() -> None:
    stopped: list[int] = []

    async def wait(number: int) -> int:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.append(number)
            raise
        return number

    async def fail() -> int:
        await asyncio.sleep(0)
        raise KeyError("first")

    async def scenario() -> None:
        with pytest.raises(KeyError, match="first"):
            await run_all([wait(1), fail(), wait(2)])
        assert sorted(stopped) == [1, 2]
        with pytest.raises(KeyError, match="first"):
            async with task_group() as group:
                group.create_task(run_all([wait(3), fail()]))

    asyncio.run(scenario())
