"""Range and conditional headers. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*")


class UnsatisfiableRange(Exception):
    """The range has no byte of the object."""


def resolve_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The half-open range that a Range header asks for of an object of `size` bytes.

    None if it asks for all: no header, one that cannot be read, several ranges, an end before the start.
    Raises UnsatisfiableRange.
    """
    match = _RANGE.fullmatch(header) if header else None
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        if not last:
            return None
        if int(last) == 0 or size == 0:
            raise UnsatisfiableRange
        return max(size - int(last), 0), size
    start = int(first)
    if start >= size:
        raise UnsatisfiableRange
    end = min(int(last) + 1, size) if last else size
    return (start, end) if end > start else None


def _names(header: str, etag: str) -> bool:
    return any(
        name.strip().removeprefix("W/").strip('"') in (etag, "*")
        for name in header.split(",")
        if name.strip()
    )


def _seconds(header: str | None) -> float | None:
    if header is None:
        return None
    try:
        return parsedate_to_datetime(header).timestamp()
    except ValueError:
        return None


def failed_precondition(headers: Mapping[str, str], etag: str, modified: float) -> str | None:
    """The name of the header that a read must be refused for with 412, if any."""
    if_match = headers.get("if-match")
    if if_match is not None:
        return None if _names(if_match, etag) else "If-Match"
    since = _seconds(headers.get("if-unmodified-since"))
    return "If-Unmodified-Since" if since is not None and int(modified) > since else None


def is_not_modified(headers: Mapping[str, str], etag: str, modified: float) -> bool:
    """Whether a read must be answered 304."""
    if_none_match = headers.get("if-none-match")
    if if_none_match is not None:
        return _names(if_none_match, etag)
    since = _seconds(headers.get("if-modified-since"))
    return since is not None and int(modified) <= since


def copy_refused(headers: Mapping[str, str], etag: str, modified: float) -> str | None:
    """The name of the x-amz-copy-source-if-... header that forbids the copy, if any."""
    prefix = "x-amz-copy-source-"
    own = {name.removeprefix(prefix): value for name, value in headers.items() if name.startswith(prefix)}
    failed = failed_precondition(own, etag, modified)
    if failed is not None:
        return f"x-amz-copy-source-{failed}"
    if is_not_modified(own, etag, modified):
        return "x-amz-copy-source-If-None-Match"
    return None
