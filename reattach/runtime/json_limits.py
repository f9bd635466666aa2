"""What a JSON body may not hold whatever its shape: what no store or parser behind us could take."""

from __future__ import annotations

import re

from reattach.api import codec

MAX_DEPTH = 64
_INTEGERS = range(-(2**63), 2**64)

# Only bodies in which one of these occurs are looked at value by value.
_SUSPECT = re.compile(rb"\\u0000|\d{19}")


def check(raw: bytes) -> None:
    """Raises ValueError for JSON nested too deep, with a NUL, or with a whole number of more than 64 bits.

    Raises codec.DecodeError where it is no JSON, if it had to look.
    """
    if _SUSPECT.search(raw) is None and raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return
    level: list[object] = [codec.decode(raw, object)]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for value in level for inner in _checked(value)]
        if not level:
            return
    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


def _checked(value: object) -> list[object]:
    """What is in `value`. Raises ValueError."""
    match value:
        case str() if "\0" in value:
            raise ValueError("a text with a NUL")
        case int() if value not in _INTEGERS:
            raise ValueError("a number of more than 64 bits")
        case dict():
            return [*value.keys(), *value.values()]
        case list():
            return value
    return []
