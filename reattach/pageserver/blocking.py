"""File work in threads that never outlives whoever asked for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import ParamSpec, TypeVar

from reattach.runtime.tasks import from_thread

P = ParamSpec("P")
T = TypeVar("T")


@cache
def _pool() -> ThreadPoolExecutor:
    # Files are mostly in the page cache, so more threads than this only wait for each other.
    return ThreadPoolExecutor(max_workers=max(8, 2 * (os.cpu_count() or 1)), thread_name_prefix="file-io")


async def run_blocking(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs `work` in a thread. When cancelled, returns only after the work has ended."""
    return await from_thread(_pool().submit(work, *args, **kwargs))
