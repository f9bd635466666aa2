"""Times in `index_part.json`: UTC without a zone, with a fraction of 0, 3, 6 or 9 digits."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_TEXT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?")


def format_naive(time: datetime) -> str:
    """The text of a UTC time, with the shortest exact fraction."""
    text = time.replace(tzinfo=None, microsecond=0).isoformat()
    if time.microsecond % 1000:
        return f"{text}.{time.microsecond:06d}"
    return f"{text}.{time.microsecond // 1000:03d}" if time.microsecond else text


def now() -> str:
    return format_naive(datetime.now(UTC))


def parse_naive(text: str) -> datetime:
    """The time in UTC; digits beyond microseconds are dropped. Raises ValueError."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f"not a time like 2025-01-31T12:00:00.123: {text!r}")
    seconds = datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    return seconds.replace(microsecond=int((match[2] or "")[:6].ljust(6, "0")))
