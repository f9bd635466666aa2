"""A local disk that is full, too many open files: trouble that passes, or that a person ends."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from reattach.pageserver.import_pgdata.errors import ImportFailed
from reattach.runtime.backoff import WARN_AFTER_FAILURES, back_off
from reattach.runtime.per_loop import per_loop

log = logging.getLogger(__name__)

T = TypeVar("T")

_MOST_OPEN_LAYERS = 256


@per_loop
def open_layers() -> asyncio.Semaphore:
    """How many layers may be written at a time, by all imports of the process: each is an open file."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return asyncio.Semaphore(max(1, min(_MOST_OPEN_LAYERS, soft // 4)))


async def despite_local_trouble(what: str, patience: float, attempt: Callable[[], Awaitable[T]]) -> T:
    """Attempts until no OSError comes, backing off. Raises ImportFailed after `patience` seconds of
    them, and the OSErrors that do not pass: of a directory that is gone."""
    failures = 0
    since: float | None = None
    while True:
        await back_off(failures)
        try:
            return await attempt()
        except (FileNotFoundError, NotADirectoryError):
            # Somebody has taken the directory away; it does not come back by itself.
            raise
        except OSError as e:
            since = time.monotonic() if since is None else since
            lasting = time.monotonic() - since
            if failures and lasting > patience:
                raise ImportFailed(f"{what}: {e}, for {lasting:.0f} s now (attempt {failures + 1})") from e
            failures += 1
            level = logging.INFO if failures < WARN_AFTER_FAILURES else logging.WARNING
            log.log(
                level,
                "%s failed, will retry for %.0f s (attempt %d): %s",
                what,
                patience - lasting,
                failures,
                e,
            )
