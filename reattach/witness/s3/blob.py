"""The bytes of objects, in memory or in files, handed out in pieces and never copied whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


class BlobChanged(Exception):
    """A file that an object stands for was changed, cut or removed behind the bucket's back."""


@dataclass(frozen=True, slots=True)
class FilePiece:
    """`length` bytes at `offset` of a file that is open as long as the Pieces that it came in."""

    fd: int
    offset: int
    length: int


Piece = memoryview | FilePiece


class Pieces:
    """A byte range as pieces in order. `close` gives back the files that were opened for it."""

    __slots__ = ("_fds", "_owner", "length", "pieces")

    def __init__(
        self, pieces: Sequence[Piece], length: int, fds: Sequence[int] = (), owner: object = None
    ) -> None:
        self.pieces = pieces
        self.length = length
        self._fds = fds
        self._owner = owner  # keeps a file open that may be replaced while its bytes are on the way

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds = ()

    def inverted_at(self, position: int) -> Pieces:
        """The same range with one byte inverted. Takes the files over."""
        changed: list[Piece] = []
        at = 0
        for piece in self.pieces:
            size = piece_length(piece)
            if at <= position < at + size:
                cut = position - at
                byte = bytes([bytes(_read(slice_piece(piece, cut, cut + 1)))[0] ^ 0xFF])
                parts = (slice_piece(piece, 0, cut), memoryview(byte), slice_piece(piece, cut + 1, size))
                changed.extend(part for part in parts if piece_length(part))
            else:
                changed.append(piece)
            at += size
        return Pieces(changed, self.length, self._fds, self._owner)

    def read(self) -> bytes:
        """All of it, as one copy."""
        return b"".join(_read(piece) for piece in self.pieces)


NOTHING = Pieces((), 0)


def piece_length(piece: Piece) -> int:
    return len(piece) if isinstance(piece, memoryview) else piece.length


def slice_piece(piece: Piece, start: int, end: int) -> Piece:
    if isinstance(piece, memoryview):
        return piece[start:end]
    return FilePiece(piece.fd, piece.offset + start, end - start)


def _read(piece: Piece) -> bytes | memoryview:
    if isinstance(piece, memoryview):
        return piece
    parts, at, end = [], piece.offset, piece.offset + piece.length
    while at < end:
        part = os.pread(piece.fd, end - at, at)
        if not part:
            raise BlobChanged("a file became shorter while it was read")
        parts.append(part)
        at += len(part)
    return b"".join(parts)


class MemoryBlob:
    __slots__ = ("_view", "size")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._view = memoryview(data)
        self.size = len(self._view)

    def open(self, start: int, end: int) -> Pieces:
        return Pieces((self._view[start:end],), end - start) if end > start else NOTHING


class SpoolBlob:
    """A file without a name, which ends with this object or this process."""

    __slots__ = ("_file", "size")

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size

    def open(self, start: int, end: int) -> Pieces:
        piece = FilePiece(self._file.fileno(), start, end - start)
        return Pieces((piece,), end - start, owner=self._file)


class PathBlob:
    """Somebody else's file, as it was when it was preloaded."""

    __slots__ = ("_mtime_ns", "_path", "size")

    def __init__(self, path: str, size: int, mtime_ns: int) -> None:
        self._path = path
        self.size = size
        self._mtime_ns = mtime_ns

    @property
    def unchanged_path(self) -> str | None:
        """Where the bytes lie; None if what lies there is no longer what was preloaded."""
        try:
            found = os.stat(self._path)  # noqa: PTH116
        except OSError:
            return None
        return self._path if (found.st_size, found.st_mtime_ns) == (self.size, self._mtime_ns) else None

    def open(self, start: int, end: int) -> Pieces:
        """Raises BlobChanged."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            raise BlobChanged(f"preloaded file {self._path}: {e.strerror}") from e
        stat = os.fstat(fd)
        if stat.st_size != self.size or stat.st_mtime_ns != self._mtime_ns:
            os.close(fd)
            raise BlobChanged(f"preloaded file {self._path} was changed")
        return Pieces((FilePiece(fd, start, end - start),), end - start, (fd,))


class JoinedBlob:
    """Blobs one after the other, as the parts of a multipart upload."""

    __slots__ = ("_parts", "size")

    def __init__(self, parts: Sequence[Blob]) -> None:
        self._parts = parts
        self.size: int = sum(part.size for part in parts)

    def open(self, start: int, end: int) -> Pieces:
        pieces: list[Piece] = []
        fds: list[int] = []
        at = 0
        for part in self._parts:
            low, high = max(start - at, 0), min(end - at, part.size)
            if low < high:
                opened = part.open(low, high)
                pieces.extend(opened.pieces)
                fds.extend(opened._fds)
            at += part.size
        return Pieces(pieces, end - start, fds, self)


class SlicedBlob:
    """A range of another blob, as UploadPartCopy takes it."""

    __slots__ = ("_blob", "_start", "size")

    def __init__(self, blob: Blob, start: int, end: int) -> None:
        self._blob = blob
        self._start = start
        self.size = end - start

    def open(self, start: int, end: int) -> Pieces:
        return self._blob.open(self._start + start, self._start + end)


Blob = MemoryBlob | SpoolBlob | PathBlob | JoinedBlob | SlicedBlob


def chunks(blob: Blob, size: int = 1 << 20) -> Iterator[bytes | memoryview]:
    """The blob's bytes in chunks of at most `size`."""
    for start in range(0, blob.size, size):
        opened = blob.open(start, min(start + size, blob.size))
        try:
            for piece in opened.pieces:
                yield _read(piece)
        finally:
            opened.close()


def open_spool_file(directory: Path) -> BinaryIO:
    """A new file in `directory` that has no name. Raises OSError."""
    return tempfile.TemporaryFile("w+b", buffering=0, dir=directory)
