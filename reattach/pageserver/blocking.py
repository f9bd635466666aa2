"""File work in threads that never outlives whoever asked for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import ParamSpec, TypeVar

from reattach.runtime.tasks import shielded, started

P = ParamSpec("P")
T = TypeVar("T")


@cache
def _pool() -> ThreadPoolExecutor:
    # Files are mostly in the page cache, so more threads than this only wait for each other.
    return ThreadPoolExecutor(max_workers=max(8, 2 * (os.cpu_count() or 1)), thread_name_prefix="file-io")


async def run_blocking(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs `work` in a thread. If the caller is cancelled, waits for the thread before giving way.

    So a task that has ended has no thread left that could still touch its files.
    """
    future = started(asyncio.get_running_loop().run_in_executor(_pool(), partial(work, *args, **kwargs)))
    try:
        return await shielded(future)
    except asyncio.CancelledError:
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue
        raise
