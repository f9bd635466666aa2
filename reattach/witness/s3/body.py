"""Request bodies on their way in: plain, aws-chunked, in memory or in the spool directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from reattach.witness.s3.blob import Blob, MemoryBlob, SpoolBlob, open_spool_file

MAX_BODY_BYTES = 5 << 30
"""S3 takes no more in one request."""

SPOOL_BYTES = 1 << 20
"""Bodies from this size on go to the spool directory, if there is one."""

_MAX_LINE = 8192


class BadBody(Exception):
    """The body breaks the rules of its own encoding; the message is for the client."""


class AwsChunked:
    """Decodes `aws-chunked`: `size[;chunk-signature=...]CRLF data CRLF ... 0 CRLF trailers CRLF`.

    Signatures are not checked.
    """

    def __init__(self) -> None:
        self.done = False
        self.trailers: dict[str, str] = {}
        self._line = bytearray()
        self._left = 0
        self._state = "size"

    def feed(self, data: memoryview) -> Iterator[memoryview]:
        """The payload in `data`, as views of it. Raises BadBody."""
        at, end = 0, len(data)
        while at < end:
            if self._state == "data":
                piece = data[at : at + self._left]
                self._left -= len(piece)
                at += len(piece)
                if self._left == 0:
                    self._state = "gap"
                yield piece
                continue
            stop = bytes(data[at : at + _MAX_LINE]).find(b"\n")
            if stop < 0:
                self._line += data[at:]
                if len(self._line) > _MAX_LINE:
                    raise BadBody("a line of the chunked encoding is too long")
                return
            self._line += data[at : at + stop]
            at += stop + 1
            line = bytes(self._line).rstrip(b"\r")
            self._line.clear()
            self._take_line(line)

    def _take_line(self, line: bytes) -> None:
        match self._state:
            case "size":
                digits = line.partition(b";")[0].strip()
                try:
                    self._left = int(digits, 16)
                except ValueError as e:
                    raise BadBody("a chunk has no size") from e
                if self._left < 0:
                    raise BadBody("a chunk has no size")
                self._state = "data" if self._left else "trailers"
            case "gap":
                if line:
                    raise BadBody("a chunk is longer than its size")
                self._state = "size"
            case "trailers" if line:
                name, _, value = line.decode("latin-1").partition(":")
                self.trailers[name.strip().lower()] = value.strip()
            case "trailers":
                self.done = True


class _Memory:
    """Collects into memory; `size` is a hint."""

    def __init__(self, size: int) -> None:
        # calloc hands out pages as they are written, so a size that is never sent costs nothing.
        self._data = bytearray(size)
        self._view: memoryview | None = memoryview(self._data)
        self.at = 0

    def target(self) -> memoryview:
        assert self._view is not None
        return self._view[self.at :]

    def write(self, piece: memoryview) -> None:
        end = self.at + len(piece)
        if self._view is not None and end <= len(self._data):
            self._view[self.at : end] = piece
        else:
            if self._view is not None:
                self._view.release()
                self._view = None
            del self._data[self.at :]
            self._data += piece
        self.at = end

    def finish(self) -> Blob:
        return MemoryBlob(memoryview(self._data)[: self.at])


class _Spool:
    """Collects into a file without a name."""

    def __init__(self, directory: Path) -> None:
        self._file: BinaryIO = open_spool_file(directory)
        self.at = 0

    def write(self, piece: memoryview) -> None:
        self.at += len(piece)
        while piece:
            piece = piece[self._file.write(piece) :]

    def finish(self) -> Blob:
        return SpoolBlob(self._file, self.at)


class Receiver:
    """Takes one request's body from the wire.

    `remaining` counts bytes that are still to come, None if the transfer coding says when it ends.
    """

    def __init__(
        self, length: int | None, payload_length: int | None, chunked: bool, spool: Path | None
    ) -> None:
        self.remaining = length
        self.received = 0
        self._decoder = AwsChunked() if chunked else None
        self._expected = payload_length
        size = payload_length if payload_length is not None else length
        if spool is not None and (size is None or size >= SPOOL_BYTES):
            self._sink: _Memory | _Spool = _Spool(spool)
        else:
            self._sink = _Memory(size or 0)

    def target(self) -> memoryview | None:
        """Where the next bytes may be put without a copy, None if they must be fed."""
        if self._decoder is None and self.remaining is not None and isinstance(self._sink, _Memory):
            return self._sink.target()
        return None

    def placed(self, size: int) -> None:
        """`size` bytes were put into `target`."""
        assert isinstance(self._sink, _Memory) and self.remaining is not None
        self._sink.at += size
        self.received += size
        self.remaining -= size

    def feed(self, data: memoryview) -> None:
        """Raises BadBody."""
        self.received += len(data)
        if self.remaining is not None:
            self.remaining -= len(data)
        if self._decoder is None:
            self._sink.write(data)
        else:
            for piece in self._decoder.feed(data):
                self._sink.write(piece)
        if self._sink.at > MAX_BODY_BYTES:
            raise BadBody("the body is larger than 5 GiB")

    def finish(self) -> tuple[Blob, dict[str, str]]:
        """The body and its trailers. Raises BadBody if it is not what was announced."""
        if self._decoder is not None:
            if not self._decoder.done:
                raise BadBody("the chunked encoding has no end")
            if self._expected is not None and self._sink.at != self._expected:
                raise BadBody("the body is not as long as x-amz-decoded-content-length says")
        return self._sink.finish(), self._decoder.trailers if self._decoder else {}
