"""Page checksums: those that Postgres computes."""

from __future__ import annotations

import random
import struct

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from reattach.api.key import BLCKSZ
from reattach.pageserver.import_pgdata.page_checksums import first_bad_page, page_checksums

OFFSETS = struct.unpack(
    ">32I",
    bytes.fromhex(
        "5b1f36e9b852596002ab50aa1de66d2a79ff467a9bb9f8a3217e7cd283e13d2c"
        "f8d4474fe39eb97042c6ae16993216fa7b093b5d98daff3cf718902a0b1c9cdb"
        "e58f764b187636bc5d7b3bb1e73de7de92bec979cca6c0b2304a097985aa43d4"
        "783125bb6ca8eaa2e407eac64b5cfc3e9fbf8c7615ca20bef2ca9fd3959bd756"
    ),
)


def one_by_one(page: bytes, block: int) -> int:
    """A page's checksum, word by word: 32 parallel FNV-1a sums, folded."""
    words = struct.unpack("<2048I", page[:8] + b"\0\0" + page[10:])
    sums = list(OFFSETS)
    for row in (*(words[i : i + 32] for i in range(0, 2048, 32)), (0,) * 32, (0,) * 32):
        for lane, word in enumerate(row):
            mixed = sums[lane] ^ word
            sums[lane] = (mixed * 16777619 & 0xFFFFFFFF) ^ mixed >> 17
    folded = block
    for lane_sum in sums:
        folded ^= lane_sum
    return folded % 65535 + 1


def blocks_from(first: int, count: int) -> npt.NDArray[np.uint32]:
    return np.arange(first, first + count, dtype=np.uint32)


def checksummed(page: bytes, block: int) -> bytes:
    return page[:8] + struct.pack("<H", one_by_one(page, block)) + page[10:]


@given(st.integers(0, 1000), st.integers(0, 2**32 - 5))
def test_checksums_are_those_of_the_definition(seed: int, first_block: int) -> None:
    pages = [random.Random(seed + i).randbytes(BLCKSZ) for i in range(3)]
    expected = [one_by_one(page, first_block + i) for i, page in enumerate(pages)]
    assert page_checksums(b"".join(pages), blocks_from(first_block, 3)).tolist() == expected


@given(st.integers(0, 3), st.integers(0, BLCKSZ - 1), st.integers(1, 255))
def test_the_first_bad_page_is_named(bad: int, at: int, flip: int) -> None:
    pages = [bytearray(checksummed(random.Random(i).randbytes(BLCKSZ), 70 + i)) for i in range(4)]
    assert first_bad_page(b"".join(pages), blocks_from(70, 4)) is None
    pages[bad][at] ^= flip
    pages[3][100] ^= 1 if bad < 3 else 0
    if pages[bad][14:16] != b"\0\0":
        assert first_bad_page(b"".join(pages), blocks_from(70, 4)) == bad


def test_a_page_in_another_place_is_bad() -> None:
    page = checksummed(random.Random(1).randbytes(BLCKSZ), 5)
    assert first_bad_page(page, blocks_from(5, 1)) is None
    assert first_bad_page(page, blocks_from(6, 1)) == 0


def test_new_pages_have_none() -> None:
    assert first_bad_page(bytes(BLCKSZ * 3), blocks_from(0, 3)) is None
