"""A bound on the bytes of the bucket that are in memory at a time."""

from __future__ import annotations

import asyncio
from collections import deque


class ByteBudget:
    """Bytes that may be held at a time. First come, first served, so that nobody starves."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def try_acquire(self, size: int) -> bool:
        """Takes `size` bytes unless that needs waiting. More than there are at all counts as all."""
        size = min(size, self._total)
        if self._waiting or size > self._free:
            return False
        self._free -= size
        return True

    async def acquire(self, size: int) -> None:
        """Waits for `size` bytes. Who holds bytes already must not call this, or all may wait for all."""
        if self.try_acquire(size):
            return
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append((min(size, self._total), granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.release(size)
            else:
                self._serve()
            raise

    def release(self, size: int) -> None:
        """Gives back what one acquire took."""
        self._free += min(size, self._total)
        self._serve()

    def _serve(self) -> None:
        while self._waiting:
            size, granted = self._waiting[0]
            if granted.done():
                self._waiting.popleft()
            elif size <= self._free:
                self._waiting.popleft()
                self._free -= size
                granted.set_result(None)
            else:
                return
