"""Where an attached tenant shard is in its life."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Any

from reattach.runtime.errors import InternalError, ResourceUnavailable, ShuttingDown

ACTIVE_WAIT_SECONDS = 30.0


class Phase(StrEnum):
    ATTACHING = "Attaching"
    ACTIVATING = "Activating"
    ACTIVE = "Active"
    STOPPING = "Stopping"
    BROKEN = "Broken"


class TenantState:
    """Changes only forward: Attaching, Activating, Active; from any to Broken; from any to Stopping.

    Only an attachment that failed and is tried again goes from Broken to Activating.
    """

    def __init__(self) -> None:
        self.phase = Phase.ATTACHING
        self.reason = ""
        self._changed = asyncio.Event()

    def advance(self, phase: Phase, reason: str = "") -> None:
        if self.phase is Phase.STOPPING:
            return
        self.phase, self.reason = phase, reason
        self._changed.set()
        self._changed = asyncio.Event()

    async def settled(self) -> None:
        """Returns when it is neither Attaching nor Activating."""
        while self.phase in (Phase.ATTACHING, Phase.ACTIVATING):
            await self._changed.wait()

    async def wait_active(self) -> None:
        """Raises the ApiError that tells a client why the tenant shard cannot be used."""
        try:
            async with asyncio.timeout(ACTIVE_WAIT_SECONDS):
                await self.settled()
        except TimeoutError as e:
            raise ResourceUnavailable("Timed out waiting for tenant to become active") from e
        if self.phase is Phase.BROKEN:
            raise InternalError(f"tenant is broken: {self.reason}")
        if self.phase is Phase.STOPPING:
            raise ShuttingDown

    def to_json(self) -> dict[str, Any]:
        match self.phase:
            case Phase.ACTIVATING:
                return {"slug": "Activating", "data": "Attaching"}
            case Phase.STOPPING:
                return {"slug": "Stopping", "data": {}}
            case Phase.BROKEN:
                return {"slug": "Broken", "data": {"reason": self.reason, "backtrace": ""}}
            case _:
                return {"slug": str(self.phase)}

    def attachment_status(self) -> dict[str, Any]:
        match self.phase:
            case Phase.ATTACHING:
                return {"slug": "maybe"}
            case Phase.BROKEN:
                return {"slug": "failed", "data": {"reason": self.reason}}
            case _:
                return {"slug": "attached"}
