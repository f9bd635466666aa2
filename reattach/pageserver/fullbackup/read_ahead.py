"""Reading the next while the last is being used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def read_ahead(items: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """The same items; each is asked for when the one before it is handed out."""

    async def next_item() -> T | None:
        return await anext(items, None)

    async with aclosing(items):
        pending = asyncio.create_task(next_item())
        try:
            while (item := await pending) is not None:
                pending = asyncio.create_task(next_item())
                yield item
        finally:
            pending.cancel()
            await asyncio.wait([pending])
            if not pending.cancelled():
                pending.exception()  # seen, even if nobody asked for this item any more
