"""What a history says of a body: its JSON if that is small, else its length and digest. Headers are never in
it, as they carry secrets.
"""

from __future__ import annotations

import hashlib

import msgspec

from reattach.api.history import Attributes

SMALL = 256 << 10
"""Bytes of JSON that are small."""


class BodyRecord:
    """Looks at a body as it passes; keeps no more than what is small."""

    def __init__(self, content_type: bytes | None) -> None:
        self._is_json = content_type is not None and b"json" in content_type.lower()
        self._kept = bytearray()
        self._digest = hashlib.sha256()
        self._length = 0

    def add(self, piece: bytes) -> None:
        self._length += len(piece)
        self._digest.update(piece)
        if self._is_json and self._length <= SMALL:
            self._kept += piece

    def small(self) -> bytes:
        """Its bytes, if they are JSON and few; else none."""
        return bytes(self._kept) if self._length <= SMALL else b""

    def attributes(self) -> Attributes:
        """`body`, or `length` (bytes) and `digest` (SHA-256); nothing for an empty body."""
        if self._length == 0:
            return {}
        if kept := self.small():
            try:
                return {"body": msgspec.json.decode(kept)}
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass  # it only said that it was JSON
        return {"length": self._length, "digest": self._digest.hexdigest()}
