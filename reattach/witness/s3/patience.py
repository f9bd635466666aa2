"""How long clients may take: connections on which nothing comes are ended."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Literal, NamedTuple, Protocol

Phase = Literal["idle", "head", "body", "answer"]
"""What a connection waits for: a request, the rest of its head, more of its body, or its answer."""


class Patience(NamedTuple):
    """Seconds from the end of the last answer, for a whole head, and between two pieces of a body."""

    idle: float = 600.0
    head: float = 60.0
    body: float = 60.0

    def limit(self, phase: Phase) -> float | None:
        """An answer may take as long as it takes: faults and gates hold it."""
        return {"idle": self.idle, "head": self.head, "body": self.body}.get(phase)


class Watched(Protocol):
    phase: Phase
    since: float

    def expire(self) -> None:
        """Its time is up."""


class Watchman:
    """Looks after all connections every now and then, which costs each of them nothing."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, connections: Collection[Watched], patience: Patience
    ) -> None:
        self._loop = loop
        self._connections = connections
        self._patience = patience
        self._pause = min(5.0, *(limit / 4 for limit in patience))
        self._look()

    def _look(self) -> None:
        now = self._loop.time()
        for connection in list(self._connections):
            limit = self._patience.limit(connection.phase)
            if limit is not None and now - connection.since > limit:
                connection.expire()
        self._loop.call_later(self._pause, self._look)
