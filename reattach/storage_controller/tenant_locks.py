"""Shared and exclusive locks by key, which say who has held one for long."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

ALERT_AFTER = 30.0
"""Seconds."""


@dataclass(slots=True)
class _Lock:
    """holders: -1 if held exclusively, else the number of those who share it. First come, first served."""

    holders: int = 0
    waiting: deque[tuple[bool, asyncio.Future[None]]] = field(default_factory=deque)

    def admit(self) -> None:
        while self.waiting:
            exclusive, turn = self.waiting[0]
            if turn.done():
                self.waiting.popleft()
            elif exclusive and self.holders == 0:
                self.waiting.popleft()
                self.holders = -1
                turn.set_result(None)
            elif not exclusive and self.holders >= 0:
                self.waiting.popleft()
                self.holders += 1
                turn.set_result(None)
            else:
                return

    def release(self, exclusive: bool) -> None:
        self.holders = 0 if exclusive else self.holders - 1
        self.admit()


class TenantLocks:
    """A lock for every key, kept for as long as anybody holds or awaits it."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, _Lock] = {}

    @asynccontextmanager
    async def shared(self, key: Hashable, operation: str) -> AsyncIterator[None]:
        async with self._hold(key, operation, exclusive=False):
            yield

    @asynccontextmanager
    async def exclusive(self, key: Hashable, operation: str) -> AsyncIterator[None]:
        async with self._hold(key, operation, exclusive=True):
            yield

    @asynccontextmanager
    async def _hold(self, key: Hashable, operation: str, *, exclusive: bool) -> AsyncIterator[None]:
        kind = "exclusive" if exclusive else "shared"
        lock = self._locks.setdefault(key, _Lock())
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lock.waiting.append((exclusive, turn))
        lock.admit()
        alert = asyncio.get_running_loop().call_later(
            ALERT_AFTER,
            lambda: log.warning(
                "Operation %s on key %s has waited %.0f s for %s lock", operation, key, ALERT_AFTER, kind
            ),
        )
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                lock.release(exclusive)
            self._drop_unused(key, lock)
            raise
        finally:
            alert.cancel()
        since = time.monotonic()
        try:
            yield
        finally:
            held = time.monotonic() - since
            if held > ALERT_AFTER:
                log.warning("%s lock by %s was held for %.1fs", kind.capitalize(), operation, held)
            lock.release(exclusive)
            self._drop_unused(key, lock)

    def _drop_unused(self, key: Hashable, lock: _Lock) -> None:
        lock.admit()
        if lock.holders == 0 and not lock.waiting and self._locks.get(key) is lock:
            del self._locks[key]
