"""One direction of a session, cut into messages; runs of data rows or COPY data stay as they are."""

from __future__ import annotations

from reattach.witness.postgres.framing import LENGTH, message_length

BULK = 0
"""In place of a message's type: whole and partial messages of the bulk kinds, one after the other."""


class Stream:
    """Bytes go in by `feed`; `peek` says what is next, and `take` takes it away."""

    def __init__(self, bulk: bytes) -> None:
        """bulk: the types of messages that nobody wants to look into."""
        self.bulk = bulk
        self._data = b""
        self._at = 0
        self._end = 0
        self._rest = 0
        self._rest_after = 0
        # What has come of a long message, and how much of it has not: joined once, not at each piece.
        self._pieces: list[bytes] = []
        self._missing = 0

    @property
    def size(self) -> int:
        """Bytes that have not been taken."""
        return len(self._data) - self._at + sum(map(len, self._pieces))

    def feed(self, data: bytes) -> None:
        self._pieces.append(data)
        self._missing -= len(data)
        if self._missing <= 0:
            if self._at < len(self._data):
                self._pieces.insert(0, self._data[self._at :])
            self._data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._at = self._missing = 0
            self._pieces.clear()

    def peek(self) -> tuple[int, bytes] | None:
        """(type, message) or (BULK, bytes); None if more must come. Raises NotPostgres."""
        data, start, size = self._data, self._at, len(self._data)
        if start >= size or self._pieces:
            return None
        end = self._end_of_run(start)
        if end > start:
            self._rest_after = max(0, end - size)
            self._end = min(end, size)
            return BULK, data[start : self._end]
        length = message_length(data, start)
        if length is None:
            return None
        if start + length > size:
            self._missing = start + length - size
            return None
        self._end = start + length
        self._rest_after = 0
        return data[start], data[start : self._end]

    def _end_of_run(self, start: int) -> int:
        """Where it ends, also beyond what is there."""
        data, at, bulk = self._data, start + self._rest, self.bulk
        last = len(data) - 5
        unpack = LENGTH.unpack_from
        while at <= last and data[at] in bulk:
            (length,) = unpack(data, at)
            at += length + 1
        return at

    def take(self) -> None:
        """Takes away what `peek` has shown."""
        self._at = self._end
        self._rest = self._rest_after

    def take_all(self) -> bytes:
        """All that is there, as it is."""
        data, self._data, self._at = self._data[self._at :], b"", 0
        return data
