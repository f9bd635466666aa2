"""Which of several generations' objects an attach in one generation reads."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

from reattach.pageserver.remote.storage import ObjectNotFound

T = TypeVar("T")

_SUFFIX = re.compile(r"-(?P<generation>[0-9a-f]{8})(?:\.json)?$")


def generation_of(name: str) -> int | None:
    """The generation in an index's or manifest's name, None if it has none."""
    match = _SUFFIX.search(name)
    return int(match["generation"], 16) if match else None


def newest_allowed(names: list[str], generation: int) -> str | None:
    """The name of the highest generation that is not above `generation`; None if there is none such.

    A name without a generation counts as older than any.
    """
    allowed = [(-1 if (g := generation_of(name)) is None else g, name) for name in names]
    return max((each for each in allowed if each[0] <= generation), default=(0, None))[1]


async def load_newest(
    generation: int,
    *,
    name_of: Callable[[int | None], str],
    get: Callable[[str], Awaitable[T]],
    list_names: Callable[[], Awaitable[list[str]]],
) -> tuple[str, T]:
    """The name and content of the object to use in `generation`.

    Tries the generation itself (a stale or repeated attach), the one before (most attaches), and lists only
    if neither is there. Raises ObjectNotFound.
    """
    for candidate in (generation, generation - 1):
        if candidate >= 0:
            try:
                return name_of(candidate), await get(name_of(candidate))
            except ObjectNotFound:
                continue
    name = newest_allowed(await list_names(), generation)
    if name is None:
        raise ObjectNotFound(name_of(None))
    return name, await get(name)
