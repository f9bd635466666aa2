"""Which databases a page of `pg_database` names for certain."""

from __future__ import annotations

import random
import struct

from reattach.api.key import BLCKSZ
from reattach.pageserver.import_pgdata.databases import certain_databases

COMMITTED, FROZEN, XMAX_INVALID = 0x0100, 0x0300, 0x0800


def row(oid: int, name: bytes, bits: int, xmax: int = 0) -> bytes:
    header = struct.pack("<IIIHHHHHB", 731, xmax, 0, 0, 0, 1, 14, bits, 32).ljust(32, b"\0")
    return header + struct.pack("<I64s", oid, name) + bytes(32)


def page(*rows: bytes, state: int = 1) -> bytes:
    pointers, data, upper = b"", b"", BLCKSZ
    for each in rows:
        upper -= len(each)
        data = each + data
        pointers += struct.pack("<I", upper | state << 15 | len(each) << 17)
    header = struct.pack("<8xHHHHHHI", 0, 0, 24 + len(pointers), upper, BLCKSZ, BLCKSZ | 4, 0)
    return (header + pointers).ljust(upper, b"\0") + data


def test_rows_that_are_there_for_certain() -> None:
    pages = page(
        row(1, b"template1", FROZEN | XMAX_INVALID),
        row(5, b"postgres", COMMITTED),
        row(6, b"nobody has read it", XMAX_INVALID),
        row(7, b"dropped or locked", COMMITTED, xmax=733),
        row(8, b"its deletion was rolled back", COMMITTED | XMAX_INVALID, xmax=733),
    ) + page(row(9, b"shop", FROZEN))
    assert dict(certain_databases(pages)) == {
        1: "template1",
        5: "postgres",
        8: "its deletion was rolled back",
        9: "shop",
    }


def test_what_is_no_row() -> None:
    assert not list(certain_databases(page(row(5, b"postgres", FROZEN), state=3)))
    assert not list(certain_databases(bytes(BLCKSZ)))
    assert not list(certain_databases(random.Random(7).randbytes(64 * BLCKSZ)))
    cut_short = bytearray(page(row(5, b"postgres", FROZEN)))
    struct.pack_into("<I", cut_short, 24, (BLCKSZ - 8) | 1 << 15 | 100 << 17)
    assert not list(certain_databases(cut_short))
