"""Telling the control plane where a tenant's shards are attached."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from reattach.runtime.backoff import back_off
from reattach.runtime.http_client import TransportError
from reattach.storage_controller.control_plane import ControlPlane
from reattach.storage_controller.core.model import Shard

log = logging.getLogger(__name__)

_RETRIES = 10
_BUSY = 423
_SLOW_DOWN = 429
_FATAL = frozenset({400, 401, 403})


class ComputeHook:
    """Does nothing without a control plane."""

    def __init__(self, control_plane: ControlPlane | None) -> None:
        self._control_plane = control_plane
        self._slots = asyncio.Semaphore(32)

    @property
    def is_enabled(self) -> bool:
        return self._control_plane is not None

    async def notify(self, shards: Sequence[Shard]) -> bool:
        """Tells where the shards are. False if it was not taken and must be told later.

        Nothing is told until every shard of the tenant has a place.
        """
        if self._control_plane is None or not shards:
            return True
        if any(shard.intent.attached is None for shard in shards):
            return True
        first = shards[0]
        body: dict[str, object] = {
            "tenant_id": str(first.id.tenant_id),
            "preferred_az": first.preferred_az,
            "stripe_size": first.stripe_size if len(shards) > 1 else None,
            "shards": [{"node_id": s.intent.attached, "shard_number": s.id.shard_number} for s in shards],
        }
        async with self._slots:
            return await self._deliver(self._control_plane, body)

    @staticmethod
    async def _deliver(control_plane: ControlPlane, body: dict[str, object]) -> bool:
        reason = ""
        for attempt in range(_RETRIES):
            try:
                answer = await control_plane.notify_attach(body)
            except TransportError as e:
                reason = str(e)
            else:
                if answer.is_success:
                    return True
                reason = f"status {answer.status}"
                if answer.status == _BUSY:
                    log.info("Failed to notify compute of attached pageserver: tenant busy")
                    return False
                if answer.status in _FATAL:
                    log.warning("Failed to notify compute of attached pageserver: %s", reason)
                    return False
                if answer.status == _SLOW_DOWN:
                    await asyncio.sleep(5)
            await back_off(attempt)
        log.warning("Giving up on compute notification: %s", reason)
        return False
