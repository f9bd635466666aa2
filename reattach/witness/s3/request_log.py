"""Every request in the order of its arrival."""

from __future__ import annotations

import time

from reattach.api.bucket import LoggedRequest, LogPage

_PAGE = 20_000


class RequestLog:
    """Entries stay as they are once `ended` is set; `seq` goes on counting when the log is cleared."""

    def __init__(self) -> None:
        self._entries: list[LoggedRequest] = []
        self._first = 1

    @property
    def last_seq(self) -> int:
        return self._first + len(self._entries) - 1

    def begin(self) -> LoggedRequest:
        """A new entry, already in the log."""
        entry = LoggedRequest(
            seq=self._first + len(self._entries), time=time.time(), started=time.monotonic()
        )
        self._entries.append(entry)
        return entry

    def read(self, since: int, limit: int = _PAGE, bucket: str | None = None, prefix: str = "") -> LogPage:
        """Entries from sequence number `since` on; `limit` bounds how many are looked at."""
        start = max(since - self._first, 0)
        seen = self._entries[start : start + min(limit, _PAGE)]
        following = max(since, self._first) + len(seen)
        unfinished = next((entry.seq for entry in seen if entry.ended is None), following)
        entries = [
            entry
            for entry in seen
            if (bucket is None or entry.bucket == bucket) and (not prefix or entry.key.startswith(prefix))
        ]
        return LogPage(entries, unfinished, following, self.last_seq + 1)

    def clear(self) -> None:
        self._first += len(self._entries)
        self._entries = []
