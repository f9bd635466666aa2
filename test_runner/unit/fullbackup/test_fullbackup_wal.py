"""The WAL that a stock server starts from, read back with the rules that a server reads it by."""

from __future__ import annotations

import struct

import google_crc32c
import pytest

from reattach.pageserver.fullbackup.wal import NotStartable, WalSegment, wal_segments
from test_runner.unit.fullbackup.pgdata import SYSTEM_IDENTIFIER, control_file

SEGMENT = 16 << 20
PAGE = 8192
RECORD_LENGTH = 24 + 2 + 88

POSITIONS = {
    "first record of a segment": 5 * SEGMENT + 40,
    "first record of a page": SEGMENT + 3 * PAGE + 24,
    "middle of a page": SEGMENT + 0x2345E8,
    "last that fits a page": SEGMENT + 8 * PAGE - RECORD_LENGTH - 6,
    "across a page, in its data": SEGMENT + 8 * PAGE - 64,
    "across a page, in its header": SEGMENT + 8 * PAGE - 8,
    "across a segment": 7 * SEGMENT - 32,
    "across a log file id": (1 << 32) - 16,
}


def read_record(segments: list[WalSegment], lsn: int, *, magic: int, timeline: int) -> bytes:
    """The record at `lsn`; asserts that every page on the way to it is one that a server accepts."""
    image = {
        int(s.name[8:16], 16) * (1 << 32) + int(s.name[16:], 16) * SEGMENT + offset: page
        for s in segments
        for offset, page in s.pages
    }
    first_of_segment = lsn - lsn % SEGMENT
    assert image.keys() >= {first_of_segment, lsn - lsn % PAGE}
    assert all(s.name.startswith(f"{timeline:08X}") and s.size == SEGMENT for s in segments)
    record, address = b"", lsn
    while len(record) < RECORD_LENGTH:
        page = address - address % PAGE
        header = struct.unpack_from("<HHIQI", image[page])
        is_long = page % SEGMENT == 0
        remaining = RECORD_LENGTH - len(record) if record else 0
        assert header == (magic, 2 * is_long | (remaining > 0), timeline, page, remaining)
        if is_long:
            assert struct.unpack_from("<QII", image[page], 24) == (SYSTEM_IDENTIFIER, SEGMENT, PAGE)
        if record:
            address += 40 if is_long else 24
        record += image[page][address - page :][: RECORD_LENGTH - len(record)]
        address = page + PAGE
    return record


@pytest.mark.parametrize("lsn", POSITIONS.values(), ids=POSITIONS.keys())
def test_holds_the_checkpoint_record(lsn: int) -> None:
    raw = control_file(checkpoint=lsn, timeline=3)
    segments = wal_segments(raw, 16)
    record = read_record(segments, lsn, magic=0xD113, timeline=3)
    length, xid, previous, info, manager, crc = struct.unpack_from("<IIQBB2xI", record)
    assert (length, xid, previous, info, manager) == (RECORD_LENGTH, 0, 0, 0, 0)
    assert google_crc32c.value(record[24:] + record[:20]) == crc
    assert record[24:26] == b"\xff\x58"
    assert record[26:] == raw[40:128]
    is_split = lsn % SEGMENT + RECORD_LENGTH > SEGMENT
    assert len(segments) == 1 + is_split


@pytest.mark.parametrize(("version", "magic"), [(14, 0xD10D), (15, 0xD110), (16, 0xD113), (17, 0xD116)])
def test_page_magic_is_the_versions(version: int, magic: int) -> None:
    segments = wal_segments(control_file(version=version), version)
    assert read_record(segments, 0x1500028, magic=magic, timeline=1)


def test_short_pages_and_long_segments() -> None:
    (segment,) = wal_segments(
        control_file(checkpoint=(3 << 26) + 1000, segment_size=1 << 26, page_size=1024), 16
    )
    assert segment.name == "000000010000000000000003"
    assert [offset for offset, _ in segment.pages] == [0, 1024]
    assert all(len(page) == 1024 for _, page in segment.pages)


@pytest.mark.parametrize(
    ("raw", "version", "reason"),
    [
        (control_file(state=6), 16, "not shut down cleanly"),
        (control_file(), 18, "Postgres 18"),
        (control_file(checkpoint=SEGMENT), 16, "inside a WAL page header"),
        (control_file(checkpoint=SEGMENT + PAGE + 16), 16, "inside a WAL page header"),
        (control_file(page_size=0), 16, "WAL pages of 0"),
        (control_file()[:200], 16, "only 200 bytes"),
    ],
)
def test_refuses_what_no_server_starts_from(raw: bytes, version: int, reason: str) -> None:
    with pytest.raises(NotStartable, match=reason):
        wal_segments(raw, version)
