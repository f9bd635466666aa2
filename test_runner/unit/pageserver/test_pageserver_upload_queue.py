"""The queue that carries uploads out."""

from __future__ import annotations

import asyncio

import pytest

from reattach.pageserver.remote.upload_order import Operation, UploadIndex, UploadLayer
from reattach.pageserver.remote.upload_queue import QueueStopped, UploadQueue


class Worker:
    """Performs operations when the test lets it."""

    def __init__(self) -> None:
        self.started: list[Operation[int]] = []
        self.finished: list[Operation[int]] = []
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def perform(self, operation: Operation[int]) -> None:
        self.started.append(operation)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.finished.append(operation)


def test_wait_completion_covers_what_was_pushed_before() -> None:
    async def run() -> None:
        worker = Worker()
        queue = UploadQueue(worker.perform)
        queue.push(UploadLayer("a"))
        queue.push(UploadIndex(1))
        waiting = asyncio.ensure_future(queue.wait_completion())
        await asyncio.sleep(0)
        assert worker.started == [UploadLayer("a")]
        assert not waiting.done()
        worker.gate.set()
        async with asyncio.timeout(5):
            await waiting
        assert worker.finished == [UploadLayer("a"), UploadIndex(1)]
        assert queue.is_empty

    asyncio.run(run())


def test_stop_drops_what_waits_and_leaves_nothing_running() -> None:
    async def run() -> None:
        worker = Worker()
        queue = UploadQueue(worker.perform)
        queue.push(UploadLayer("a"))
        queue.push(UploadIndex(1))
        waiting = asyncio.ensure_future(queue.wait_completion())
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await queue.stop(0)
        worker.gate.set()
        with pytest.raises(QueueStopped):
            await waiting
        with pytest.raises(QueueStopped):
            queue.push(UploadLayer("b"))
        assert (worker.started, worker.finished) == ([UploadLayer("a")], [])
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_stop_lets_uploads_finish_that_can() -> None:
    async def run() -> None:
        worker = Worker()
        queue = UploadQueue(worker.perform)
        queue.push(UploadLayer("a"))
        queue.push(UploadIndex(1))
        asyncio.get_running_loop().call_soon(worker.gate.set)
        await queue.stop(5)
        assert worker.finished == [UploadLayer("a"), UploadIndex(1)]

    asyncio.run(run())


def test_a_permanent_failure_reaches_whoever_waits(caplog: pytest.LogCaptureFixture) -> None:
    """I11: an upload that can never succeed is an error, not an endless wait."""

    async def run() -> None:
        worker = Worker()
        worker.error = FileNotFoundError("the layer file is gone")
        queue = UploadQueue(worker.perform)
        queue.push(UploadLayer("a"))
        queue.push(UploadIndex(1))
        worker.gate.set()
        async with asyncio.timeout(5):
            with pytest.raises(FileNotFoundError):
                await queue.wait_completion()
            with pytest.raises(FileNotFoundError):
                await queue.wait_completion()
        assert UploadIndex(1) not in worker.started

    asyncio.run(run())
    assert "can never be done" in caplog.text
