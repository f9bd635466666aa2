"""How long to wait before trying again."""

from __future__ import annotations

import asyncio

WARN_AFTER_FAILURES = 4
"""Of those that are waited for by `back_off`."""

WARN_AFTER_SOON = 7
"""Of those that are waited for by `soon`: about as many seconds."""

LONGEST_SECONDS = 3.0


def delay_before(failures: int) -> float:
    """Seconds before the next attempt after so many failures: none, then 1.1^n up to 3.

    For attempts that are counted: a few of them have to last through a restart of the other side.
    """
    return 0.0 if failures == 0 else min(1.1**failures, LONGEST_SECONDS)


async def back_off(failures: int) -> None:
    if failures:
        await asyncio.sleep(delay_before(failures))


def soon(failures: int) -> float:
    """Seconds before the next attempt of those that never end: none, then 0.05, twice as long each time, up
    to 3.
    """
    return 0.0 if failures == 0 else min(0.05 * 2 ** min(failures - 1, 10), LONGEST_SECONDS)
