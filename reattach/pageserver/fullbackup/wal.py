"""The piece of write-ahead log that a stock Postgres needs to start on a cleanly shut down cluster.

Such a server reads one record: the shutdown checkpoint that its control file points at. The record's
content is the control file's copy of it, so the WAL around it can be made from the control file alone.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import google_crc32c

_PAGE_MAGIC = {14: 0xD10D, 15: 0xD110, 16: 0xD113, 17: 0xD116}
_FIRST_IS_CONTRECORD = 0x0001
_LONG_HEADER = 0x0002

_PAGE_HEADER = struct.Struct("<HHIQI4x")
_LONG_HEADER_TAIL = struct.Struct("<QII")
_RECORD_HEADER = struct.Struct("<IIQBB2x")

_SHORT_DATA_BLOCK = 0xFF
_SHUTDOWNED = 1

_CHECKPOINT_COPY = slice(40, 128)
_MIN_CONTROL_FILE = 296


class NotStartable(Exception):
    """No server of this version could start from the control file."""


class WalSegment(NamedTuple):
    """A segment file of `size` bytes: zeros but for the pages `(offset, bytes)`."""

    name: str
    size: int
    pages: list[tuple[int, bytes]]


def wal_segments(control_file: bytes, pg_version: int) -> list[WalSegment]:
    """The WAL from which a server of major version `pg_version` starts on a data directory.

    There are two segments when the checkpoint record crosses a segment boundary, else one.
    Raises NotStartable if the cluster was not shut down cleanly or the version is not known.
    """
    magic = _PAGE_MAGIC.get(pg_version)
    if magic is None:
        raise NotStartable(f"no WAL is known for Postgres {pg_version}")
    if len(control_file) < _MIN_CONTROL_FILE:
        raise NotStartable(f"the control file has only {len(control_file)} bytes")
    (system_identifier,) = struct.unpack_from("<Q", control_file, 0)
    (state,) = struct.unpack_from("<I", control_file, 16)
    (lsn,) = struct.unpack_from("<Q", control_file, 32)
    (timeline,) = struct.unpack_from("<I", control_file, 48)
    (page_size,) = struct.unpack_from("<I", control_file, 224)
    segment_size = wal_segment_size(control_file)
    if state != _SHUTDOWNED:
        raise NotStartable(f"the cluster was not shut down cleanly: its state is {state}")
    if page_size < 1024 or segment_size < page_size or segment_size % page_size:
        raise NotStartable(f"WAL pages of {page_size} and segments of {segment_size} bytes")

    def page_header(address: int, contrecord_length: int) -> bytes:
        is_long = address % segment_size == 0
        info = (_LONG_HEADER if is_long else 0) | (_FIRST_IS_CONTRECORD if contrecord_length else 0)
        header = _PAGE_HEADER.pack(magic, info, timeline, address, contrecord_length)
        return header + _LONG_HEADER_TAIL.pack(system_identifier, segment_size, page_size) * is_long

    first_segment = lsn - lsn % segment_size
    first_page = lsn - lsn % page_size
    pages = {first_segment: page_header(first_segment, 0)}
    pages.setdefault(first_page, page_header(first_page, 0))
    if lsn - first_page < len(pages[first_page]):
        raise NotStartable(f"the checkpoint's address {lsn:X} lies inside a WAL page header")
    record, address = _checkpoint_record(control_file[_CHECKPOINT_COPY]), lsn
    while record:
        page = address - address % page_size
        if page not in pages:
            pages[page] = page_header(page, len(record))
            address += len(pages[page])
        taken, record = record[: page + page_size - address], record[page + page_size - address :]
        pages[page] = pages[page].ljust(address - page, b"\0") + taken
        address += len(taken)

    segments: dict[int, WalSegment] = {}
    for page, content in sorted(pages.items()):
        segno, offset = divmod(page, segment_size)
        name = _segment_name(timeline, segno, segment_size)
        segment = segments.setdefault(segno, WalSegment(name, segment_size, []))
        segment.pages.append((offset, content.ljust(page_size, b"\0")))
    return list(segments.values())


def wal_segment_size(control_file: bytes) -> int:
    """Bytes of a WAL segment file of this cluster."""
    size: int = struct.unpack_from("<I", control_file, 228)[0]
    return size


def _checkpoint_record(checkpoint: bytes) -> bytes:
    payload = bytes((_SHORT_DATA_BLOCK, len(checkpoint))) + checkpoint
    # No predecessor: only a record that is read after another one has its link checked.
    header = _RECORD_HEADER.pack(_RECORD_HEADER.size + 4 + len(payload), 0, 0, 0, 0)
    return header + struct.pack("<I", google_crc32c.value(payload + header)) + payload


def _segment_name(timeline: int, segno: int, segment_size: int) -> str:
    per_id = 0x100000000 // segment_size
    return f"{timeline:08X}{segno // per_id:08X}{segno % per_id:08X}"
