"""The answer of a peer, kept back until it may go to the client."""

from __future__ import annotations

from reattach.api.history import Attributes
from reattach.witness.http.bodies import BodyRecord
from reattach.witness.http.messages import IN_MEMORY, AnswerReader, Head
from reattach.witness.wire import Side


class Answer:
    """One, from the peer's bytes to the client.

    A peer has done what it was asked for when its answer is whole. One that is longer than `IN_MEMORY`, or of
    which nobody can say how long it will take (no length, and not JSON), counts by its head alone, and then
    passes as it comes.
    """

    def __init__(self, method: str, client: Side, upstream: Side) -> None:
        self._client = client
        self._upstream = upstream
        self._reader = AnswerReader(method, self._on_head, self._on_piece, self._on_end)
        self._record = BodyRecord(None)
        self._kept: bytearray | None = bytearray()
        self._length: int | None = None
        self.status = 0
        self.has_come = False
        """Whether the peer has done what it was asked for."""

    @property
    def is_complete(self) -> bool:
        return self._reader.is_complete

    def feed(self, data: bytes) -> None:
        """Raises NotHttp."""
        self._reader.feed(data)

    def end_of_stream(self) -> None:
        """The peer has closed."""
        self._reader.end_of_stream()

    def release(self) -> None:
        """Lets it go, with what is still to come."""
        if self._kept is not None:
            kept, self._kept = self._kept, None
            self._client.write(bytes(kept))
            self._upstream.resume("kept")

    def attributes(self) -> Attributes:
        """What a history says of its body; of one that is still on its way, its length if that is known."""
        if self.is_complete:
            return self._record.attributes()
        return {} if self._length is None else {"length": self._length}

    def _send(self, data: bytes) -> None:
        if self._kept is None:
            self._client.write(data)
            return
        self._kept += data
        if len(self._kept) > IN_MEMORY:
            self.has_come = True
            self._upstream.stop("kept")

    def _on_head(self, status: int, head: Head, has_body: bool) -> None:
        self.status = status
        self._record = BodyRecord(head.get(b"content-type"))
        length = head.get(b"content-length")
        self._length = None if length is None else int(length)
        is_json = b"json" in (head.get(b"content-type") or b"").lower()
        is_open_ended = has_body and self._length is None and not is_json
        if is_open_ended or (self._length or 0) > IN_MEMORY:
            self.has_come = True
        self._send(head.render())

    def _on_piece(self, framed: bytes, piece: bytes) -> None:
        self._record.add(piece)
        self._send(framed)

    def _on_end(self, last: bytes) -> None:
        self.has_come = True
        if last:
            self._send(last)
