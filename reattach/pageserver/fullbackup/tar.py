"""Tar headers in the GNU format, with sparse files."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

BLOCK = 512
END_OF_ARCHIVE = bytes(2 * BLOCK)

_FILE, _DIRECTORY, _SPARSE = b"0", b"5", b"S"
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s16s41s97s12s17x")
_MAP_ENTRY = struct.Struct("12s12s")
_IN_HEADER, _IN_EXTENSION = 4, 21
_CHECKSUM_AT = 148


def padding(size: int) -> bytes:
    """What fills a member of `size` bytes up to the next block."""
    return bytes(-size % BLOCK)


def directory_header(path: str, mtime: int) -> bytes:
    """The header of a directory, mode 0700, as a server demands of its data directory."""
    return _header(f"{path}/", _DIRECTORY, 0o700, 0, mtime)


def file_header(path: str, size: int, mtime: int) -> bytes:
    """The header of a regular file of `size` bytes, which follow it."""
    return _header(path, _FILE, 0o600, size, mtime)


def sparse_header(path: str, size: int, runs: Sequence[tuple[int, int]], mtime: int) -> bytes:
    """The headers of a file of `size` bytes of which only `runs` follow, one after another.

    `runs` are byte positions `(first, end)` in ascending order; all between them are holes.
    """
    entries = [(first, end - first) for first, end in runs]
    if not runs or runs[-1][1] != size:
        entries.append((size, 0))
    stored = sum(length for _, length in entries)
    inline, rest = entries[:_IN_HEADER], entries[_IN_HEADER:]
    sparse_map = _sparse_map(inline, _IN_HEADER) + _more(rest)
    header = _header(path, _SPARSE, 0o600, stored, mtime, sparse_map, _octal(size, 12))
    extensions = []
    while rest:
        part, rest = rest[:_IN_EXTENSION], rest[_IN_EXTENSION:]
        extensions.append((_sparse_map(part, _IN_EXTENSION) + _more(rest)).ljust(BLOCK, b"\0"))
    return header + b"".join(extensions)


def _sparse_map(entries: Sequence[tuple[int, int]], slots: int) -> bytes:
    packed = b"".join(_MAP_ENTRY.pack(_octal(start, 12), _octal(length, 12)) for start, length in entries)
    return packed.ljust(slots * _MAP_ENTRY.size, b"\0")


def _more(rest: Sequence[object]) -> bytes:
    return b"\x01" if rest else b"\0"


@lru_cache(maxsize=1024)
def _octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def _header(
    path: str, kind: bytes, mode: int, size: int, mtime: int, sparse_map: bytes = b"", real_size: bytes = b""
) -> bytes:
    name = path.encode()
    if len(name) > 100:
        raise ValueError(f"the name is too long for a tar header: {path}")
    header = _HEADER.pack(
        name,
        _octal(mode, 8),
        _octal(0, 8),
        _octal(0, 8),
        _octal(size, 12),
        _octal(mtime, 12),
        b" " * 8,
        kind,
        b"",
        b"ustar  \0",
        b"postgres",
        b"postgres",
        b"",
        b"",
        sparse_map,
        real_size,
    )
    checksum = b"%06o\0 " % sum(header)
    return header[:_CHECKSUM_AT] + checksum + header[_CHECKSUM_AT + len(checksum) :]
