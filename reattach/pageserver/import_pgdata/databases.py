"""Which databases `pg_database` names, as far as its pages alone tell. Pure.

Where pages lie, and what the bits mean, is in `storage/bufpage.h` and `access/htup_details.h` of Postgres.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from reattach.api.key import BLCKSZ
from reattach.pageserver.layers.blobs import Buffer

PG_DATABASE = 1262
"""Its oid."""

_PAGE = struct.Struct("<12xHHHH")
_PAGE_SIZE_AND_VERSION = BLCKSZ | 4
_POINTERS_AT = 24
_POINTER = struct.Struct("<I")
_NORMAL = 1
_TUPLE = struct.Struct("<4xI12xHB")
_ROW = struct.Struct("<I64s")

_XMIN_COMMITTED, _XMAX_INVALID = 0x0100, 0x0800


def certain_databases(pages: Buffer) -> Iterator[tuple[int, str]]:
    """Oid and name of each row that is there for certain.

    Whether a row is, only `pg_xact` knows until somebody has read it and left a hint; a row without one is
    passed over, and so is one that was deleted or locked.
    """
    for start in range(0, len(pages), BLCKSZ):
        yield from _rows(bytes(pages[start : start + BLCKSZ]))


def _rows(page: bytes) -> Iterator[tuple[int, str]]:
    lower, upper, special, size = _PAGE.unpack_from(page)
    if size != _PAGE_SIZE_AND_VERSION or not _POINTERS_AT <= lower <= upper <= special == BLCKSZ:
        return
    for at in range(_POINTERS_AT, lower - _POINTER.size + 1, _POINTER.size):
        (pointer,) = _POINTER.unpack_from(page, at)
        offset, state, length = pointer & 0x7FFF, pointer >> 15 & 3, pointer >> 17
        if state != _NORMAL or length < _TUPLE.size or offset + length > BLCKSZ:
            continue
        xmax, bits, header = _TUPLE.unpack_from(page, offset)
        is_deleted = xmax and not bits & _XMAX_INVALID
        if bits & _XMIN_COMMITTED and not is_deleted and header + _ROW.size <= length:
            oid, name = _ROW.unpack_from(page, offset + header)
            yield oid, name.partition(b"\0")[0].decode(errors="replace")
