"""Changes of a store that are cancelled while they are under way."""

from __future__ import annotations

import asyncio

import pytest

from reattach.pageserver.remote import settled as module
from reattach.pageserver.remote.settled import settled


async def cancelled(change: asyncio.Future[None]) -> asyncio.Task[None]:
    """A task that waits for the change and has just been cancelled."""
    task = asyncio.create_task(settled("change", change))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("error", [None, OSError("reset")])
def test_the_answer_is_awaited(error: OSError | None) -> None:
    """I9: whoever has ended has nothing under way."""

    async def body() -> None:
        change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = await cancelled(change)
        assert not task.done()
        if error is None:
            change.set_result(None)
        else:
            change.set_exception(error)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(body())


def test_no_answer_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """I10: a store that is silent does not keep a tenant from moving."""
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.01)

    async def body() -> None:
        change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = await cancelled(change)
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done
        assert task.cancelled()
        assert change.cancelled()

    asyncio.run(body())


def test_cancelled_twice_it_goes_at_once() -> None:
    async def body() -> None:
        change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = await cancelled(change)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert change.cancelled()

    asyncio.run(body())


def test_an_error_is_raised() -> None:
    async def body() -> None:
        change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        change.set_exception(OSError("reset"))
        with pytest.raises(OSError, match="reset"):
            await settled("change", change)

    asyncio.run(body())
