"""What a listing means, and what of it is refused with the object's name and the reason."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.api.pgdata_path import (
    RelationFile,
    parse_relation_file,
    parse_slru_segment,
    relation_file_name,
)
from reattach.pageserver.import_pgdata.bucket_object import BucketObject
from reattach.pageserver.import_pgdata.errors import ObjectError, ObjectMissing
from reattach.pageserver.import_pgdata.file_names import Database, parse_database
from reattach.pageserver.import_pgdata.pgdata import PgData, read_listing
from test_runner.unit.import_pgdata.listings import IGNORED, listings, obj, seeds

MINIMAL = [
    obj("pgdata/global/pg_control", 1),
    BucketObject("pgdata/global/pg_filenode.map", 524, '"m"'),
    BucketObject("pgdata/base/5/pg_filenode.map", 524, '"m"'),
]
FULL = 131072

relation_files = st.builds(
    RelationFile, st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(0, 2**32 - 1)
)


@given(relation_files)
def test_relation_file_names_read_back(file: RelationFile) -> None:
    assert parse_relation_file(relation_file_name(file)) == file


@pytest.mark.parametrize(
    "name",
    ["", "PG_VERSION", "pg_filenode.map", "pg_control", "pg_internal.init", "t3_16384", "1234_", "-1",
     "1234.", "1234_old", "1234_FSM", "4294967296", "1.4294967296", " 1", "1\n", "١"],
)  # fmt: skip
def test_other_names_are_no_relations(name: str) -> None:
    assert parse_relation_file(name) is None


@pytest.mark.parametrize(
    ("directory", "database"),
    [
        ("pgdata/base/5/", Database(1663, 5)),
        ("pgdata/global/", Database(1664, 0)),
        ("pgdata/base/", None),
        ("pgdata/base/4294967296/", None),
        ("pgdata/base/5/6/", None),
        ("pgdata/base/pgsql_tmp/", None),
        ("pgdata/", None),
    ],
)
def test_database_directories(directory: str, database: Database | None) -> None:
    assert parse_database(directory) == database


def test_slru_segments_are_hex_in_either_case() -> None:
    assert [parse_slru_segment(n) for n in ("0000", "00aF", "1FFFF")] == [0, 0xAF, 0x1FFFF]
    assert [parse_slru_segment(n) for n in ("", "0g", "100000000", "0000.old", " 0")] == [None] * 5


def comparable(pgdata: PgData) -> tuple[object, ...]:
    """Arrays have no equality of their own."""
    databases = [
        (database, files.relmap, files.segments.tolist(), files.sources)
        for database, files in pgdata.databases.items()
    ]
    return databases, pgdata.slru, pgdata.control_file, pgdata.warnings


@given(listings(), seeds)
def test_order_of_the_listing_does_not_matter(objects: list[BucketObject], seed: int) -> None:
    """I1: the same contents mean the same."""
    first = read_listing(objects)
    random.Random(seed).shuffle(objects)
    second = read_listing(objects)
    assert comparable(first) == comparable(second)
    assert [*first.databases] == [*second.databases] == sorted(first.databases)
    assert [*first.databases][-1] == Database(1664, 0), "shared relations come last"


@given(listings())
def test_sources_are_what_an_import_depends_on(objects: list[BucketObject]) -> None:
    sources = read_listing(objects).sources()
    assert list(sources) == sorted(source for source in objects if source.path not in IGNORED)


@given(listings(), st.data())
def test_a_size_that_is_no_whole_number_of_pages_is_refused(
    objects: list[BucketObject], data: st.DataObject
) -> None:
    """I11: half a page names its object."""
    pages = [
        i
        for i, source in enumerate(objects)
        if source.path not in IGNORED and not source.path.endswith(("map", "control"))
    ]
    if not pages:
        return
    i = data.draw(st.sampled_from(pages))
    objects[i] = objects[i]._replace(size=objects[i].size + data.draw(st.integers(1, 8191)))
    with pytest.raises(ObjectError) as caught:
        read_listing(objects)
    assert str(caught.value).startswith(f"{objects[i].path}: ")


BAD_NAME = "not the name that Postgres gives to a relation file"
PREPARED = "prepared transactions cannot be imported: commit them or roll them back first"
BACKUP = "a base backup is not a cluster before a server has replayed its WAL: start it, and shut it down"
RECOVERY = "a server in recovery may be behind its WAL: promote it, and shut it down"
REFUSED: list[tuple[dict[str, int], str, str]] = [
    (
        {"pg_tblspc/16400/PG_16/5/16384": 1},
        "pg_tblspc/16400/PG_16/5/16384",
        "user tablespaces cannot be imported",
    ),
    ({"pg_tblspc/16400/PG_16/5/1": 0}, "pg_tblspc/16400/PG_16/5/1", "user tablespaces cannot be imported"),
    ({"base/5/7.1": 1}, "base/5/7.1", "segment 0 of this relation is missing"),
    ({"base/5/7": FULL, "base/5/7.2": 1}, "base/5/7.2", "segment 1 of this relation is missing"),
    ({"base/5/7": 9, "base/5/7.1": 1}, "base/5/7", "has 9 of 131072 blocks, but pgdata/base/5/7.1 follows"),
    ({"base/5/7": FULL + 1}, "base/5/7", "131073 blocks are more than a segment has"),
    ({"base/5/07": 1}, "base/5/07", BAD_NAME),
    ({"base/5/7.0": 1}, "base/5/7.0", BAD_NAME),
    ({"base/5/0": 1}, "base/5/0", BAD_NAME),
    ({"base/05/1": 1}, "base/05/1", "its directory should be named 'pgdata/base/5/'"),
    ({"pg_xact/0001": 1, "pg_xact/00001": 1}, "pg_xact/0001", "pgdata/pg_xact/00001 is the same segment"),
    ({"pg_xact/00001": 1}, "pg_xact/00001", "Postgres would call this segment 0001"),
    ({"pg_xact/001": 1}, "pg_xact/001", "Postgres would call this segment 0001"),
    ({"pg_xact/00af": 1}, "pg_xact/00af", "Postgres would call this segment 00AF"),
    ({"pg_xact/0001": 33}, "pg_xact/0001", "has 33 blocks, a segment has 32 at most"),
    (
        {"pg_multixact/members/0FFFF": 1},
        "pg_multixact/members/0FFFF",
        "Postgres would call this segment FFFF",
    ),
    ({"base/5/7_fsm": 1}, "base/5/7_fsm", "the main fork of relation 7 is missing"),
    ({"base/5/7_init": 1, "base/5/8": 1}, "base/5/7_init", "the main fork of relation 7 is missing"),
    ({"pg_twophase/000002DB": 1}, "pg_twophase/000002DB", PREPARED),
    ({"pg_twophase/00000000000002DB": 1}, "pg_twophase/00000000000002DB", PREPARED),
    ({"backup_label": 1}, "backup_label", BACKUP),
    ({"tablespace_map": 1}, "tablespace_map", BACKUP),
    ({"standby.signal": 0}, "standby.signal", RECOVERY),
    ({"recovery.signal": 0}, "recovery.signal", RECOVERY),
    ({"recovery.conf": 1}, "recovery.conf", RECOVERY),
    (
        {"postmaster.pid": 1},
        "postmaster.pid",
        "a server is running on this data directory, or was not shut down",
    ),
    ({"base/6/1249": 1}, "base/6/pg_filenode.map", "No file found for the remote object id given"),
]


@pytest.mark.parametrize(("more", "path", "reason"), REFUSED)
def test_refused_before_the_first_job(more: dict[str, int], path: str, reason: str) -> None:
    """I11, I8: what could not be imported whole is not begun."""
    with pytest.raises(ObjectError) as caught:
        read_listing([*(obj(f"pgdata/{name}", blocks) for name, blocks in more.items()), *MINIMAL])
    assert str(caught.value) == f"pgdata/{path}: {reason}"


@pytest.mark.parametrize("missing", range(2))
def test_missing_control_file_or_shared_map(missing: int) -> None:
    with pytest.raises(ObjectMissing) as caught:
        read_listing([source for i, source in enumerate(MINIMAL) if i != missing])
    assert caught.value.path == MINIMAL[missing].path


def test_empty_segments_after_a_truncation_are_no_gap() -> None:
    truncated = [obj("pgdata/base/5/7", 9), obj("pgdata/base/5/7.1", 0), obj("pgdata/base/5/7.2", 0)]
    files = read_listing([*truncated, *MINIMAL]).databases[Database(1663, 5)]
    assert files.segments.tolist() == [[7, 0, 0, 9], [7, 0, 1, 0], [7, 0, 2, 0]]


def test_nothing_at_all_misses_the_control_file() -> None:
    with pytest.raises(ObjectMissing):
        read_listing([])


@pytest.mark.parametrize(
    ("path", "size", "warned"),
    [
        ("pg_replslot/slot/state", 200, True),
        ("pg_commit_ts/0000", 8192, True),
        ("pg_logical/snapshots/0-1500028.snap", 100, True),
        ("pg_logical/mappings/map-1-2-3-4-5", 100, True),
        ("pg_logical/replorigin_checkpoint", 24, True),
        ("pg_logical/replorigin_checkpoint", 8, False),
        ("pg_replslot/", 0, False),
        ("pg_wal/000000010000000000000001", 1 << 24, False),
        ("backup_label.old", 200, False),
        ("something else", 1, False),
    ],
)
def test_what_somebody_may_miss_is_warned_of(path: str, size: int, warned: bool) -> None:
    (*found,) = read_listing([*MINIMAL, BucketObject(f"pgdata/{path}", size, "v")]).warnings
    assert len(found) == warned
    assert not warned or found[0].startswith(f"pgdata/{path}: ")


def test_one_warning_for_all_of_a_kind() -> None:
    slots = [BucketObject(f"pgdata/pg_replslot/{name}/state", 200, "v") for name in "abc"]
    (found,) = read_listing([*MINIMAL, *slots]).warnings
    assert found.startswith("pgdata/pg_replslot/a/state and 2 more: replication slots")
