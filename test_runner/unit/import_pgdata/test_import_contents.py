"""Everything that Postgres puts into a data directory has a decision, and the documentation tells it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from reattach.fixtures.pg_version import PgVersion
from reattach.fixtures.vanilla_postgres import VanillaPostgres
from reattach.pageserver.import_pgdata.contents import (
    PLACES,
    READ_DIRECTORIES,
    SEEN_DIRECTORIES,
    Decision,
    place_of,
)

ROOT = Path(__file__).parents[3]
FOREIGN = "**"


def unknown(pgdata: Path) -> Iterator[str]:
    """Files and directories for which there is no line of their own."""
    for path in sorted(pgdata.rglob("*")):
        name = str(path.relative_to(pgdata))
        if path.is_dir() and not path.is_symlink():
            begun = any(place.pattern.startswith(f"{name}/") for place in PLACES)
            of_database = re.fullmatch(r"base/\d+", name)
            if not begun and not of_database and place_of(f"{name}/x").pattern == FOREIGN:
                yield f"{name}/"
        elif place_of(name).pattern == FOREIGN and name != "pg.log":
            yield name


@pytest.mark.every_pg_version
def test_every_place_has_a_decision(
    vanilla_pg: VanillaPostgres, pg_version: PgVersion, tmp_path: Path
) -> None:
    """I8: of a new cluster, of one that uses what makes files, of one that runs."""
    pgdata = vanilla_pg.pgdatadir
    assert list(unknown(pgdata)) == []
    options = [
        "max_prepared_transactions = 2",
        "track_commit_timestamp = on",
        "wal_level = logical",
        "logging_collector = on",
        "log_directory = 'log'",
        "unix_socket_directories = '.'",
    ]
    if int(pg_version) >= 17:
        options.append("summarize_wal = on")
    vanilla_pg.configure(options)
    vanilla_pg.start()
    with vanilla_pg.connect() as connection:
        connection.execute("create unlogged table account (id int primary key)")
        connection.execute("select pg_create_physical_replication_slot('physical', true)")
        connection.execute("select pg_create_logical_replication_slot('logical', 'pgoutput')")
        connection.execute("select pg_replication_origin_create('elsewhere')")
        connection.execute("select pg_replication_origin_advance('elsewhere', '0/1000')")
        connection.execute("begin")
        connection.execute("insert into account values (7)")
        connection.execute("prepare transaction 'waiting'")
        connection.execute("create temporary table passing as select generate_series(1, 1000)")
        connection.execute("checkpoint")
        assert list(unknown(pgdata)) == []
    vanilla_pg.stop()
    assert list(unknown(pgdata)) == []
    places = {place_of(str(path.relative_to(pgdata))) for path in pgdata.rglob("*") if path.is_file()}
    assert {"pg_twophase/**", "pg_replslot/**", "pg_commit_ts/**"} <= {place.pattern for place in places}
    origins = pgdata / "pg_logical/replorigin_checkpoint"
    assert origins.stat().st_size >= place_of("pg_logical/replorigin_checkpoint").least


def test_directories_that_matter_are_looked_at() -> None:
    listed = READ_DIRECTORIES + SEEN_DIRECTORIES
    for place in PLACES:
        directory, slash, _ = place.pattern.partition("/")
        if slash and place.decision is not Decision.LEFT_OUT:
            assert directory in listed, place


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("base/5/16384_fsm.1", "base/<n>/<n><fork><.n>"),
        ("base/5/t3_16384", "base/<n>/t<n>_<n><fork><.n>"),
        ("pg_xact/0000", "pg_xact/<hex>"),
        ("pg_wal/archive_status/x.done", "pg_wal/**"),
        (".s.PGSQL.5432.lock", ".s.PGSQL.*"),
        ("backup_label.old", "backup_label.old"),
        ("pg_xact/000g", FOREIGN),
        ("baselabel", FOREIGN),
        ("backup_label\nx", FOREIGN),
    ],
)
def test_the_first_pattern_that_fits(path: str, pattern: str) -> None:
    assert place_of(path).pattern == pattern


def test_the_documentation_has_the_same_table() -> None:
    text = (ROOT / "docs/deviations.md").read_text()
    rows = re.findall(r"^\| (`[^|]+`) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    told = [(pattern, what, why) for some, what, why in rows for pattern in re.findall("`([^`]+)`", some)]
    assert told == [(place.pattern, str(place.decision), place.why) for place in PLACES]
