"""`pg_filenode.map`: which file is which of the catalogs that no catalog can tell of. Pure."""

from __future__ import annotations

import struct

import google_crc32c

from reattach.pageserver.import_pgdata.errors import ObjectError

SIZES = {14: 512, 15: 512, 16: 524, 17: 524}
"""Bytes of the file, by Postgres version."""

_MAGIC = 0x592717
_MOST = {512: 62, 524: 64}
_HEADER = struct.Struct("<ii")
_MAPPING = struct.Struct("<II")


def read_relmap(path: str, raw: bytes) -> dict[int, int]:
    """The file number of each mapped relation, by its oid. `raw` has the size of a version.

    Raises ObjectError.
    """
    magic, count = _HEADER.unpack_from(raw)
    end = _HEADER.size + _MOST[len(raw)] * _MAPPING.size
    if magic != _MAGIC or not 0 <= count <= _MOST[len(raw)]:
        raise ObjectError(path, "is no relation map: its header is wrong")
    computed = google_crc32c.value(raw[:end])
    stored = int.from_bytes(raw[end : end + 4], "little")
    if computed != stored:
        raise ObjectError(path, f"the relation map is damaged: its CRC is {computed:08X}, not {stored:08X}")
    mappings = raw[_HEADER.size : _HEADER.size + count * _MAPPING.size]
    return dict(_MAPPING.iter_unpack(mappings))
