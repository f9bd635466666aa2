"""The control file: what is read from it, and what is refused before the first job."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.api.lsn import Lsn
from reattach.pageserver.import_pgdata.control_file import Counters, parse_control_file
from reattach.pageserver.import_pgdata.errors import ObjectError
from test_runner.unit.import_pgdata.data_directory import (
    NEXT_MEMBER,
    NEXT_MULTI,
    NEXT_XID,
    control_file,
    with_crc,
)


def refusal(raw: bytes) -> str:
    with pytest.raises(ObjectError) as caught:
        parse_control_file(raw)
    assert caught.value.path == "pgdata/global/pg_control"
    return caught.value.reason


def changed(offset: int, packed: bytes) -> bytes:
    raw = bytearray(control_file())
    raw[offset : offset + len(packed)] = packed
    return with_crc(raw)


@pytest.mark.parametrize("version", [14, 15, 16, 17])
@pytest.mark.parametrize("page_checksums", [False, True])
def test_every_supported_version(version: int, page_checksums: bool) -> None:
    raw = control_file(pg_version=version, checkpoint=0x1500021, page_checksums=page_checksums)
    control = parse_control_file(raw)
    assert control.pg_version == version
    assert control.base_lsn == Lsn(0x1500028)
    assert control.has_page_checksums is page_checksums
    assert control.checkpoint == raw[40:128]
    assert control.raw == raw


def test_counters() -> None:
    counters = parse_control_file(control_file()).counters
    assert counters == Counters(NEXT_XID, NEXT_MULTI, NEXT_MEMBER, 3, 655361)


def test_a_checkpoint_of_a_running_server() -> None:
    """I8: the pages may be newer than it."""
    assert "is not that of a shutdown" in refusal(control_file(redo=0x1400000))


@pytest.mark.parametrize(
    ("offset", "name"),
    [
        (136, "minRecoveryPoint"),
        (144, "minRecoveryPointTLI"),
        (152, "backupStartPoint"),
        (160, "backupEndPoint"),
        (168, "backupEndRequired"),
    ],
)
def test_a_recovery_that_has_not_come_to_its_end(offset: int, name: str) -> None:
    assert refusal(control_file(counters={offset: 1})).startswith(f"{name} in control file is set")


@pytest.mark.parametrize("offset", [64, 84])
def test_transactions_that_cannot_be(offset: int) -> None:
    assert "cannot be" in refusal(control_file(counters={offset: 2}))


@given(st.integers(0, 291), st.integers(1, 255))
def test_every_flipped_byte_is_noticed(at: int, flip: int) -> None:
    """I11: a damaged control file is a reason, not a guess."""
    raw = bytearray(control_file())
    raw[at] ^= flip
    assert refusal(bytes(raw))


def test_crc_text_names_both_values() -> None:
    raw = bytearray(control_file())
    computed = int.from_bytes(raw[288:292], "little")
    raw[288:292] = b"\x78\x56\x34\x12"
    assert refusal(bytes(raw)) == f"invalid CRC in control file: expected {computed:08X}, was 12345678"


@pytest.mark.parametrize("size", [0, 1, 295])
def test_too_short(size: int) -> None:
    assert refusal(control_file()[:size]) == "control file is too short"


@pytest.mark.parametrize("size", [296, 8191, 8193, 16384])
def test_other_sizes(size: int) -> None:
    assert refusal(control_file(size=size)) == f"control file has {size} bytes, not 8192"


@pytest.mark.parametrize(
    ("catalog_version", "expected"),
    [
        (202506291, "unrecognized catalog version 202506291: this is PostgreSQL 18"),
        (202007201, "unrecognized catalog version 202007201: this is PostgreSQL 13"),
        (1, "unrecognized catalog version 1: this is an unknown version"),
    ],
)
def test_other_versions(catalog_version: int, expected: str) -> None:
    assert refusal(control_file(catalog_version=catalog_version)) == f"{expected}, 14 to 17 can be imported"


def test_postgres_18_is_named_though_its_crc_lies_elsewhere() -> None:
    raw = bytearray(control_file(catalog_version=202506291))
    raw[288:292] = b"else"
    assert "PostgreSQL 18" in refusal(bytes(raw))


@pytest.mark.parametrize(
    ("state", "name"),
    [
        (0, "starting up"),
        (2, "shut down in recovery"),
        (3, "shutting down"),
        (4, "in crash recovery"),
        (5, "in archive recovery"),
        (6, "in production"),
        (9, "unknown (9)"),
    ],
)
def test_a_cluster_that_was_not_shut_down(state: int, name: str) -> None:
    assert (
        refusal(control_file(state=state)) == f"the cluster was not shut down cleanly: its state is '{name}'"
    )


@pytest.mark.parametrize(
    ("offset", "packed", "expected"),
    [
        (8, struct.pack("<I", 1201), "control file version 1201 is not that of PostgreSQL 16"),
        (32, bytes(8), "the control file names no checkpoint: its LSN is 0/0"),
        (56, b"\x02", "fullPageWrites in control file is 2, neither 0 nor 1"),
        (204, struct.pack("<I", 4), "the cluster was made on a machine of another architecture"),
        (208, struct.pack("<d", 1.0), "the cluster was made on a machine of another architecture"),
        (216, struct.pack("<I", 4096), "the cluster has blocks of 4096 bytes, not 8192"),
        (220, struct.pack("<I", 65536), "the cluster has segments of 65536 blocks, not 131072"),
    ],
)
def test_impossible_fields(offset: int, packed: bytes, expected: str) -> None:
    assert refusal(changed(offset, packed)) == expected
