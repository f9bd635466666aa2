"""Durations as configuration writes them: `10s`, `100ms`, `1h 30m`."""

from __future__ import annotations

import re

_PART = re.compile(r"\s*([0-9]{1,19})\s*([a-zµ]+)")
_MAX_SECONDS = 10_000 * 365 * 86400
"""No timer here runs for longer."""
_SECONDS = {
    **dict.fromkeys(("ns", "nsec", "nanos"), 1e-9),
    **dict.fromkeys(("us", "usec", "micros", "µs"), 1e-6),
    **dict.fromkeys(("ms", "msec", "millis"), 1e-3),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
}


def parse_duration(text: str) -> float:
    """Seconds, up to ten thousand years. Raises ValueError."""
    text = text.strip()
    position, total = 0, 0.0
    while position < len(text):
        part = _PART.match(text, position)
        if part is None or part[2] not in _SECONDS:
            break
        total += int(part[1]) * _SECONDS[part[2]]
        position = part.end()
    if not text or position < len(text) or total > _MAX_SECONDS:
        raise ValueError(f"not a duration like 10s or 100ms: {text!r}")
    return total
