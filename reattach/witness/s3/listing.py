"""One page of a bucket's listing. Pure; its cost depends on the page, not on the bucket."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Page:
    """Keys and common prefixes, each sorted. `last` is the greatest of both, "" for an empty page."""

    keys: list[str]
    prefixes: list[str]
    truncated: bool
    last: str


def list_page(keys: Sequence[str], prefix: str, delimiter: str, after: str, max_keys: int) -> Page:
    """The first `max_keys` entries greater than `after` of the sorted `keys` that begin with `prefix`."""
    if max_keys <= 0:
        return Page([], [], False, "")
    at = max(bisect_left(keys, prefix), bisect_right(keys, after) if after else 0)
    end = _end_of_prefix(keys, prefix, at)
    if not delimiter:
        found = list(keys[at : min(at + max_keys, end)])
        return Page(found, [], at + max_keys < end, found[-1] if found else "")
    found, folders = list[str](), list[str]()
    last = ""
    while at < end:
        key = keys[at]
        cut = key.find(delimiter, len(prefix))
        if cut < 0:
            entry, following = key, at + 1
        else:
            entry = key[: cut + len(delimiter)]
            following = _end_of_prefix(keys, entry, at)
        if cut < 0 or entry > after:
            if len(found) + len(folders) == max_keys:
                return Page(found, folders, True, last)
            (found if cut < 0 else folders).append(entry)
            last = entry
        at = following
    return Page(found, folders, False, last)


def _end_of_prefix(keys: Sequence[str], prefix: str, start: int) -> int:
    """The index after the last key that begins with `prefix`, given that none before `start` matters."""
    bound = prefix.rstrip("\U0010ffff")
    if not bound:
        return len(keys)
    return bisect_left(keys, bound[:-1] + chr(ord(bound[-1]) + 1), start)


def encode_token(last: str) -> str:
    """A continuation token: opaque to clients, and good on any server with the same objects."""
    return base64.urlsafe_b64encode(last.encode()).decode()


def decode_token(token: str) -> str:
    """Raises ValueError."""
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except binascii.Error as e:
        raise ValueError("not a continuation token") from e
