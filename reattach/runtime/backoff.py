"""How long to wait before trying again."""

from __future__ import annotations

import asyncio

WARN_AFTER_FAILURES = 4


def delay_before(failures: int) -> float:
    """Seconds before the next attempt after so many failures: none, then 1.1^n up to 3."""
    return 0.0 if failures == 0 else min(1.1**failures, 3.0)


async def back_off(failures: int) -> None:
    await asyncio.sleep(delay_before(failures))
