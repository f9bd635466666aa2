"""Work that goes on when its caller is cancelled: nobody's error is anybody's ERROR line."""

from __future__ import annotations

import ast
import asyncio
import gc
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import reattach
from reattach.pageserver.blocking import run_blocking
from reattach.pageserver.import_pgdata.tasks import in_thread, io_threads
from reattach.pageserver.remote.settled import settled
from reattach.runtime.tasks import shielded, started


def complaints(scenario: Callable[[], Coroutine[Any, Any, None]]) -> list[str]:
    """What asyncio has to complain about after the scenario."""
    found: list[str] = []
    gc.freeze()  # a worker has millions of objects by now, and none of them is in question

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: found.append(str(context["message"])))
        await scenario()
        gc.collect()
        await asyncio.sleep(0)

    try:
        asyncio.run(main())
        gc.collect()
    finally:
        gc.unfreeze()
    return found


async def _fails(go: asyncio.Event) -> None:
    await go.wait()
    raise OSError("refused")


@pytest.mark.parametrize("when", ["before", "at once", "after"])
def test_the_caller_is_cancelled(when: str, caplog: pytest.LogCaptureFixture) -> None:
    """The work goes on to its end, and its error is a line that fails no test."""
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        go = asyncio.Event()
        work = started(_fails(go))
        caller = asyncio.create_task(shielded(work))
        await asyncio.sleep(0)
        if when != "after":
            caller.cancel()
        if when == "before":
            await asyncio.gather(caller, return_exceptions=True)
            assert caller.cancelled() and not work.done()
        go.set()
        await asyncio.wait({work})
        if when == "after":
            caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)

    assert complaints(scenario) == []
    assert ("nobody waits for any more has failed: refused" in caplog.text) is (when != "after")


def test_nobody_ever_waits() -> None:
    async def scenario() -> None:
        go = asyncio.Event()
        go.set()
        await asyncio.wait({started(_fails(go))})

    assert complaints(scenario) == []


def test_the_caller_waits() -> None:
    async def scenario() -> None:
        go = asyncio.Event()
        go.set()
        with pytest.raises(OSError, match="refused"):
            await shielded(started(_fails(go)))
        assert await shielded(started(asyncio.sleep(0, "result"))) == "result"

    assert complaints(scenario) == []


def _slow_failure(began: asyncio.Event, go: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon_threadsafe(began.set)
    asyncio.run_coroutine_threadsafe(go.wait(), loop).result(10)
    raise OSError("refused")


@pytest.mark.parametrize("how", ["thread", "pool", "change"])
def test_those_that_wait_for_the_end(how: str) -> None:
    """I9: when they are cancelled they wait for the work before they give way, and forget its error."""

    async def scenario() -> None:
        began, go, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()
        work: Coroutine[Any, Any, None]
        if how == "thread":
            work = in_thread(io_threads(), _slow_failure, began, go, loop)
        elif how == "pool":
            work = run_blocking(_slow_failure, began, go, loop)
        else:
            work = settled("change", _fails(go))
            began.set()
        caller = asyncio.create_task(work)
        await began.wait()  # a thread that has not begun would not be waited for
        await asyncio.sleep(0.01)
        caller.cancel()
        await asyncio.sleep(0.01)
        assert not caller.done()
        go.set()
        await asyncio.gather(caller, return_exceptions=True)
        assert caller.cancelled()

    assert complaints(scenario) == []


def test_nobody_shields_by_hand() -> None:
    """`asyncio.shield` alone leaves an error that nobody retrieves when its caller is cancelled."""
    engine = Path(reattach.__file__).parent
    found = [
        str(file.relative_to(engine))
        for folder in ("runtime", "pageserver", "storage_controller")
        for file in (engine / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "shield"
    ]
    assert found == ["runtime/tasks.py"]
