"""The tar of a data directory as bytes that are known beforehand and gaps that pages fill."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from reattach.api.key import BLCKSZ
from reattach.pageserver.fullbackup import tar
from reattach.pageserver.fullbackup.plan import Directory, Member, PageFile, SmallFile


class Piece(NamedTuple):
    """Bytes of the archive, followed by `page_bytes` bytes that are the next pages of the timeline."""

    literal: bytes
    page_bytes: int


def lay_out(members: Iterable[Member], mtime: int) -> list[Piece]:
    """The whole archive, its end included."""
    pieces, literal = [], bytearray()
    for member in members:
        if isinstance(member, PageFile):
            literal += _page_file_header(member, mtime)
            if page_bytes := sum(end - first for first, end in member.runs) * BLCKSZ:
                pieces.append(Piece(bytes(literal), page_bytes))
                literal.clear()
        elif isinstance(member, SmallFile):
            literal += tar.file_header(member.path, len(member.content), mtime)
            literal += member.content + tar.padding(len(member.content))
        elif isinstance(member, Directory):
            literal += tar.directory_header(member.path, mtime)
        else:
            runs = [(offset, offset + len(content)) for offset, content in member.pages]
            literal += tar.sparse_header(f"pg_wal/{member.name}", member.size, runs, mtime)
            literal += b"".join(content for _, content in member.pages)
    pieces.append(Piece(bytes(literal) + tar.END_OF_ARCHIVE, 0))
    return pieces


def _page_file_header(file: PageFile, mtime: int) -> bytes:
    size = file.blocks * BLCKSZ
    if file.is_whole:
        return tar.file_header(file.path, size, mtime)
    runs = [(first * BLCKSZ, end * BLCKSZ) for first, end in file.runs]
    return tar.sparse_header(file.path, size, runs, mtime)
