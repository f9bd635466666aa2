"""Work that goes on when whoever awaits it is cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


def started(work: Awaitable[T]) -> asyncio.Future[T]:
    """`work` as a future whose error somebody may await, but nobody has to."""
    future = asyncio.ensure_future(work)
    future.add_done_callback(_retrieve)
    return future


async def shielded(future: asyncio.Future[T]) -> T:
    """Awaits what `started` gave. If the caller is cancelled it goes on; its error is a line in the log."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if not future.done():
            future.add_done_callback(_report)
        raise


async def from_thread(submitted: Future[T]) -> T:
    """What a thread was given to do. If the caller is cancelled, waits for its end before giving way.

    So a task that has ended has no thread left that could still touch what it works on.
    """
    try:
        return await asyncio.wrap_future(submitted)
    except asyncio.CancelledError:
        # What has not begun never will; what has cannot be stopped.
        rest = started(asyncio.wrap_future(submitted))
        rest.add_done_callback(_report)
        while not rest.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([rest])
        raise


def _retrieve(future: asyncio.Future[T]) -> None:
    if not future.cancelled():
        future.exception()


def _report(future: asyncio.Future[T]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        log.info("what nobody waits for any more has failed: %s", error)
