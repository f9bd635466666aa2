"""What a wrong name was probably meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_SHOWN = 3


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error message: `; did you mean 'x' or 'y'?`, empty if no known name is like it."""
    near = get_close_matches(name, sorted(known), n=_SHOWN, cutoff=0.6)
    if not near:
        return ""
    *others, last = (repr(str(text)) for text in near)
    return f"; did you mean {', '.join(others)}{' or ' if others else ''}{last}?"
