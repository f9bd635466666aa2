"""A database that is given back is handed out again only if it is what it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from reattach.fixtures.postgres.databases import Database, DatabaseServer

KEY = __name__


def prepare(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("create table migrations (version int primary key)")
        connection.execute("insert into migrations values (1)")
        connection.execute("create table data (id serial primary key, what text unique)")
        connection.execute("create table plain (what text)")


@pytest.fixture
def server(database_server: DatabaseServer) -> Iterator[DatabaseServer]:
    with closing(DatabaseServer(database_server.url)) as own:
        yield own


@contextmanager
def connected(database: Database) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database.url, autocommit=True) as connection:
        yield connection


def rows(database: Database, table: str) -> int:
    with connected(database) as connection:
        found = connection.execute(f"select count(*) from {table}".encode()).fetchone()
    assert found is not None
    return int(found[0])


def test_rows_are_gone_and_the_database_is_used_again(server: DatabaseServer) -> None:
    first = server.create_prepared(KEY, prepare)
    with connected(first) as connection:
        connection.execute("insert into plain select generate_series(1, 100)")
    server.give_back(KEY, first)
    again = server.create_prepared(KEY, prepare)
    assert again == first
    assert rows(again, "plain") == 0
    assert rows(again, "migrations") == 1
    other = server.create_prepared(KEY, prepare)
    assert other != again, "one database for two"


@pytest.mark.parametrize(
    "change",
    [
        "insert into migrations values (999)",
        "delete from migrations",
        "update migrations set version = 2",
        "create table more (a int)",
        "drop table plain",
        "alter table plain add column more int",
        "alter table plain alter column what set default 'x'",
        "alter table plain alter column what set not null",
        "alter table plain add constraint c check (what <> '')",
        "create index on plain (what)",
        "create schema more",
        "insert into data (what) values ('uses the sequence')",
        "create function f() returns int language sql as 'select 1'",
        "do $$ begin execute format('alter database %I set work_mem = 4096', current_database()); end $$",
    ],
)
def test_a_changed_database_is_dropped(server: DatabaseServer, change: str) -> None:
    first = server.create_prepared(KEY, prepare)
    with connected(first) as connection:
        connection.execute(change.encode())
    server.give_back(KEY, first)
    assert server.create_prepared(KEY, prepare) != first
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(first.url)


@pytest.mark.parametrize("hold", [None, "lock table plain", "insert into plain values ('open')"])
def test_who_is_still_connected_is_thrown_out(server: DatabaseServer, hold: str | None) -> None:
    first = server.create_prepared(KEY, prepare)
    with closing(psycopg.connect(first.url)) as left_open:
        if hold is not None:
            left_open.execute(hold.encode())
        server.give_back(KEY, first)
        with pytest.raises(psycopg.OperationalError):
            left_open.execute("insert into plain values ('late')")
    assert server.create_prepared(KEY, prepare) == first
    assert rows(first, "plain") == 0


def test_a_database_that_is_gone_is_not_handed_out(server: DatabaseServer) -> None:
    first = server.create_prepared(KEY, prepare)
    server.drop_database(first.name)
    server.give_back(KEY, first)
    assert rows(server.create_prepared(KEY, prepare), "migrations") == 1


def test_preparing_happens_once(server: DatabaseServer) -> None:
    calls: list[str] = []

    def counted(url: str, make: Callable[[str], None] = prepare) -> None:
        calls.append(url)
        make(url)

    first, second = (server.create_prepared(KEY, counted) for _ in range(2))
    server.give_back(KEY, first)
    server.give_back(KEY, second)
    assert {server.create_prepared(KEY, counted) for _ in range(2)} == {first, second}
    assert len(calls) == 1
