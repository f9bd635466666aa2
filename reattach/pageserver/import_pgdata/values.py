"""The values of the keys that an import writes besides pages: directories and sizes. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from reattach.pageserver.import_pgdata.file_names import Database

EMPTY_TWOPHASE_DIR = bytes(8)

RELSIZE_SIZE = 8
"""Bytes of a relation fork's size."""

_COUNT = struct.Struct(">Q")
_DATABASE = struct.Struct(">II?")
_RELATION = struct.Struct(">IB")
_SEGMENT = struct.Struct(">I")


def dbdir_value(databases: Sequence[Database]) -> bytes:
    """Every database, with the mark that it has a relation map."""
    return _directory(_DATABASE.pack(spcnode, dbnode, True) for spcnode, dbnode in sorted(databases))


def reldir_value(forks: Iterable[tuple[int, int]]) -> bytes:
    """The forks `(relnode, forknum)` of a database."""
    return _directory(_RELATION.pack(*fork) for fork in sorted(forks))


def slru_dir_value(segnos: Iterable[int]) -> bytes:
    return _directory(_SEGMENT.pack(segno) for segno in sorted(segnos))


def relsize_value(blocks: int) -> bytes:
    return blocks.to_bytes(RELSIZE_SIZE, "little")


def slru_segment_size_value(blocks: int) -> bytes:
    return blocks.to_bytes(4, "little")


def _directory(entries: Iterable[bytes]) -> bytes:
    # Readers take any order. Sorted, the value depends on the bucket alone.
    packed = list(entries)
    return _COUNT.pack(len(packed)) + b"".join(packed)
