"""A checksum of a whole layer file, kept in the index because the file format has room for none."""

from __future__ import annotations

from pathlib import Path

import xxhash

from reattach.pageserver.layers.errors import LayerCorrupted

BLOCK_SIZE = 8192
_CHUNK = 1 << 20


class LayerChecksum:
    """XXH3 (64 bits) of the bytes from the second block on, then of the first block.

    In that order because a writer knows the first block last. `update` takes the file from its start, in
    pieces of any size. Text form: `xxh3:` and 16 hex digits.
    """

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_64()
        self._first_block = bytearray()
        self._missing = BLOCK_SIZE

    @classmethod
    def without_first_block(cls) -> LayerChecksum:
        """For a writer: `update` takes the file from its second block on, `text` gets the first."""
        checksum = cls()
        checksum._missing = 0
        return checksum

    def update(self, data: bytes | bytearray | memoryview) -> None:
        if self._missing:
            head = memoryview(data)[: self._missing]
            self._first_block += head
            self._missing -= len(head)
            data = memoryview(data)[len(head) :]
        self._hash.update(data)

    def text(self, first_block: bytes | None = None) -> str:
        whole = self._hash.copy()
        whole.update(self._first_block if first_block is None else first_block)
        return f"xxh3:{whole.hexdigest()}"


def checksum_file(path: Path) -> str:
    """The checksum of a file. Raises OSError."""
    checksum = LayerChecksum()
    buffer = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            checksum.update(buffer[:count])
    return checksum.text()


def verify_file(path: Path, expected: str) -> None:
    """Raises LayerCorrupted, which names the file, if its bytes are not those that were written."""
    seen = checksum_file(path)
    if seen != expected:
        raise LayerCorrupted(f"{path}: checksum is {seen}, the index says {expected}")
