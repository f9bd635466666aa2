"""Requests that change a store, and that nobody may forget while they are under way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from reattach.runtime.tasks import shielded, started

log = logging.getLogger(__name__)

SETTLE_SECONDS = 5.0
"""How long a change that nobody wants any more may hold up whoever asked for it."""


async def settled(what: str, change: Awaitable[object]) -> None:
    """Awaits the answer to a change. If the caller is cancelled, waits for it before giving way.

    A store carries out what it has received, also if nobody waits for the answer. So a task that has ended
    changes nothing any more, and whoever lists after its end sees all that there will be. A store that does
    not answer is waited for only so long.
    """
    future = started(change)
    try:
        await shielded(future)
    except asyncio.CancelledError:
        if not future.done():
            log.info("%s: waiting for the answer to a change that is under way", what)
        try:
            await asyncio.wait({future}, timeout=SETTLE_SECONDS)
        finally:
            if not future.done():
                log.info("%s: no answer within %g s, the change may come later", what, SETTLE_SECONDS)
                future.cancel()
        raise
