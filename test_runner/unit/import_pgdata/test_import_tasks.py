"""Side by side, with nothing left behind."""

from __future__ import annotations

import asyncio
import gc
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


def test_an_error_after_the_cancellation_is_not_complained_about(caplog: pytest.LogCaptureFixture) -> None:
    began = threading.Event()

    def work() -> None:
        began.set()
        time.sleep(0.05)
        raise ValueError("too late")

    async def scenario() -> None:
        with ThreadPoolExecutor(1) as threads:
            running = asyncio.create_task(in_thread(threads, work))
            while not began.is_set():
                await asyncio.sleep(0.001)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            del running
            gc.collect()

    asyncio.run(scenario())
    assert caplog.messages == []


def test_results_and_errors_of_threads_arrive() -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as threads:
            assert await in_thread(threads, divmod, 7, 2) == (3, 1)
            with pytest.raises(ZeroDivisionError):
                await in_thread(threads, divmod, 7, 0)

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


def test_results_come_in_order() -> None:
    async def after(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    async def scenario() -> None:
        assert await run_all([after(n) for n in (5, 1, 3)]) == [5, 1, 3]
        assert await run_all([]) == []

    asyncio.run(scenario())
