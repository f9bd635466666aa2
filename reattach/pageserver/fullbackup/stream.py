"""From a timeline to a tar, in buffers that are ready to be sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass

from reattach.api.key import KeyRange
from reattach.pageserver.fullbackup.catalog import read_catalog
from reattach.pageserver.fullbackup.layout import Piece, lay_out
from reattach.pageserver.fullbackup.plan import PageFile, data_directory, modification_time
from reattach.pageserver.fullbackup.source import BackupError, PageSource

_SEND_BYTES = 256 * 1024
_COPY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that is ready to be streamed: all is known of it but its pages."""

    source: PageSource
    pieces: list[Piece]
    runs: list[KeyRange]

    @property
    def size(self) -> int:
        """Bytes of the tar."""
        return sum(len(piece.literal) + piece.page_bytes for piece in self.pieces)

    async def stream(self) -> AsyncGenerator[bytes | memoryview]:
        """The tar. Raises BackupError, in the middle of it, at what cannot be read."""
        pieces = iter(self.pieces)
        literal, wanted = next(pieces)
        small: list[bytes | memoryview] = [literal]
        size = len(literal)
        async with aclosing(self.source.pages(self.runs)) as buffers:
            async for pages in buffers:
                while pages:
                    part, pages = pages[:wanted], pages[wanted:]
                    wanted -= len(part)
                    small.append(part)
                    size += len(part)
                    if not wanted:
                        literal, wanted = next(pieces)
                        small.append(literal)
                        size += len(literal)
                    if size >= _SEND_BYTES:
                        for buffer in _joined(small):
                            yield buffer
                        small, size = [], 0
        if wanted or next(pieces, None) is not None:
            raise BackupError("the timeline's pages ended before its files did")
        for buffer in _joined(small):
            yield buffer


def _joined(parts: list[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The parts, with small ones put together. What is large is not copied."""
    small: list[bytes | memoryview] = []
    for part in parts:
        if len(part) < _COPY_BYTES:
            small.append(part)
            continue
        if small:
            yield b"".join(small)
            small = []
        yield part
    if small:
        yield b"".join(small)


async def open_backup(source: PageSource) -> Backup:
    """Reads what the data directory of a timeline consists of. Raises BackupError."""
    catalog = await read_catalog(source)
    members = data_directory(catalog, source.shard)
    pieces = lay_out(members, modification_time(catalog))
    runs = [keys for member in members if isinstance(member, PageFile) for keys in member.key_ranges()]
    return Backup(source, pieces, runs)
