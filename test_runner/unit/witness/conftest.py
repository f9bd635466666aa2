"""A world of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from reattach.api.effects import Front
from reattach.fixtures.postgres.databases import DatabaseServer
from test_runner.unit.witness.proxied import ProxiedWorld
from test_runner.unit.witness.target import Target


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[ProxiedWorld]:
    """An empty world."""
    with ProxiedWorld(tmp_path) as world:
        yield world


@pytest.fixture
def target(database_server: DatabaseServer, witness: ProxiedWorld) -> Iterator[Target]:
    """An empty table `t (a int primary key)`, and a proxy of this world to its database."""
    database = database_server.create_database()
    target = Target(database.url, "")
    port = witness.listen(Front.POSTGRES, target.port)
    target.proxied = make_conninfo(database.url, host="127.0.0.1", port=port)
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("create table t (a int primary key)")
    yield target
    database_server.drop_database(database.name)
