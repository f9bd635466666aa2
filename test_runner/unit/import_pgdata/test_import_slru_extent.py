"""Transaction status that is missing or too short is refused; what Postgres leaves is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.api.key import BLCKSZ, SlruKind
from reattach.pageserver.import_pgdata.bucket_object import BucketObject
from reattach.pageserver.import_pgdata.control_file import ControlFile, parse_control_file
from reattach.pageserver.import_pgdata.errors import ObjectError
from reattach.pageserver.import_pgdata.pgdata import Segment
from reattach.pageserver.import_pgdata.slru_extent import check_extent
from test_runner.unit.import_pgdata.data_directory import control_file

XACT, OFFSETS, MEMBERS = SlruKind.CLOG, SlruKind.MULTIXACT_OFFSETS, SlruKind.MULTIXACT_MEMBERS
IDS = 1 << 32
Slru = dict[SlruKind, list[Segment]]


def control(
    next_xid: int = 750, oldest_xid: int = 722, next_multi: int = 1, oldest_multi: int = 1, member: int = 0
) -> ControlFile:
    """By default as initdb leaves it."""
    counters = {64: next_xid, 76: next_multi, 80: member, 84: oldest_xid, 92: oldest_multi}
    return parse_control_file(control_file(counters=counters))


def segments(kind: SlruKind, blocks: dict[int, int]) -> list[Segment]:
    return [
        Segment(segno, BucketObject(f"pgdata/{kind.directory}/{segno:04X}", count * BLCKSZ, "v"))
        for segno, count in sorted(blocks.items())
    ]


def slru(**blocks: dict[int, int]) -> Slru:
    """As initdb leaves it, but for the kinds given."""
    return {kind: segments(kind, blocks.get(kind.name, {0: 1})) for kind in SlruKind}


def as_postgres_keeps_it(first: int, last: int, per_page: int, pages: int) -> dict[int, int]:
    """The segments from the one of id `first` to the one of `last`, worked out page by page."""
    page, found = first // per_page // 32 * 32, {}
    while True:
        found[page // 32] = page % 32 + 1
        if page == last // per_page:
            return found
        page = (page + 1) % pages


def test_a_new_cluster() -> None:
    check_extent(slru(), control())


@given(st.integers(3, IDS - 1), st.integers(1, 3_000_000))
def test_every_extent_that_postgres_leaves(oldest: int, count: int) -> None:
    """Also across the end of the numbers."""
    following = max((oldest + count) % IDS, 3)
    kept = as_postgres_keeps_it(oldest, following - 1, 32768, IDS // 32768)
    check_extent(slru(CLOG=kept), control(next_xid=following, oldest_xid=oldest))


@given(st.integers(1, IDS - 1), st.integers(0, 200_000))
def test_every_extent_of_multixacts(oldest: int, count: int) -> None:
    following = max((oldest + count) % IDS, 1)
    kept = as_postgres_keeps_it(oldest, following, 2048, IDS // 2048)
    check_extent(slru(MULTIXACT_OFFSETS=kept), control(next_multi=following, oldest_multi=oldest))


@given(st.integers(0, IDS - 1), st.integers(0, 200_000))
def test_every_extent_of_members(oldest: int, count: int) -> None:
    following = (oldest + count) % IDS
    kept = as_postgres_keeps_it(oldest, max(following - 1, 0), 1636, -(-IDS // 1636))
    check_extent(slru(MULTIXACT_MEMBERS=kept), control(member=following))


MISSING = "is missing, though the control file says that it is in use"


@pytest.mark.parametrize(
    ("found", "numbers", "says"),
    [
        ({"CLOG": {}}, {}, f"pg_xact/0000: {MISSING}"),
        ({"CLOG": {0: 32, 2: 32}}, {"next_xid": 3 << 20}, f"pg_xact/0001: {MISSING}"),
        ({"CLOG": {0: 32, 1: 32}}, {"next_xid": (2 << 20) + 9}, f"pg_xact/0002: {MISSING}"),
        ({"CLOG": {0: 31, 1: 1}}, {"next_xid": (1 << 20) + 9}, "pg_xact/0000: has 31 blocks"),
        ({"CLOG": {0: 1}}, {"next_xid": 32769}, "pg_xact/0000: has 1 blocks, though the control file says"),
        ({"CLOG": {0: 0}}, {}, "pg_xact/0000: has 0 blocks"),
        ({"MULTIXACT_OFFSETS": {}}, {}, f"pg_multixact/offsets/0000: {MISSING}"),
        ({"MULTIXACT_OFFSETS": {0: 32}}, {"next_multi": 70_000}, f"pg_multixact/offsets/0001: {MISSING}"),
        ({"MULTIXACT_MEMBERS": {}}, {}, f"pg_multixact/members/0000: {MISSING}"),
        ({"MULTIXACT_MEMBERS": {0: 32}}, {"member": 60_000}, f"pg_multixact/members/0001: {MISSING}"),
        (
            {"MULTIXACT_MEMBERS": {0: 32, 2: 1}},
            {"member": 2 * 32 * 1636 + 9},
            f"pg_multixact/members/0001: {MISSING}",
        ),
    ],
)
def test_what_is_missing_is_named(
    found: dict[str, dict[int, int]], numbers: dict[str, int], says: str
) -> None:
    """I8, I11"""
    with pytest.raises(ObjectError) as caught:
        check_extent(slru(**found), control(**numbers))
    assert str(caught.value).startswith(f"pgdata/{says}")
