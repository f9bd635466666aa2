"""What a client sees through a PostgreSQL proxy: nothing, until a step is set; then the network's faults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from reattach.api.effects import Front, Phase
from reattach.fixtures.postgres.databases import DatabaseServer
from reattach.fixtures.postgres.protocol import Row
from test_runner.unit.witness.proxied import ProxiedWorld

BEFORE, AFTER = Phase.BEFORE, Phase.AFTER
DONE = "performed 0, answered 0"


@dataclass
class Target:
    """A database with a table `t (a int primary key)`, directly and through the proxy."""

    dsn: str
    proxied: str

    def rows(self) -> list[int]:
        with psycopg.connect(self.dsn) as connection:
            return [int(a) for (a,) in connection.execute("select a from t order by a")]


@pytest.fixture
def target(database_server: DatabaseServer, witness: ProxiedWorld) -> Iterator[Target]:
    database = database_server.create_database()
    options = conninfo_to_dict(database.url)
    port = witness.listen(Front.POSTGRES, int(str(options["port"])))
    proxied = make_conninfo(database.url, host="127.0.0.1", port=port)
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("create table t (a int primary key)")
    yield Target(database.url, proxied)
    database_server.drop_database(database.name)


@pytest.fixture
def client(target: Target) -> Iterator[psycopg.Connection[Row]]:
    with psycopg.connect(target.proxied, autocommit=True) as connection:
        yield connection


class TestEffects:
    def test_autocommit(self, target: Target, witness: ProxiedWorld, client: psycopg.Connection[Row]) -> None:
        client.execute("insert into t values (1)")
        client.execute("insert into t values (%s)", [2])
        client.execute("select * from t")
        assert target.rows() == [1, 2]
        witness.wait_outcomes(("commit insert t #1", DONE), ("commit insert t #2", DONE))

    def test_block(self, target: Target, witness: ProxiedWorld, client: psycopg.Connection[Row]) -> None:
        with client.transaction():
            client.execute("insert into t values (1)")
            client.execute("update t set a = %s", [3])
            client.execute("update t set a = %s", [4])
        assert target.rows() == [4]
        witness.wait_outcomes(("commit insert t; update t #1", DONE))
        (effect,) = witness.history().effects()
        assert effect.arrived.request == {
            "statements": [
                "BEGIN",
                "insert into t values (1)",
                "update t set a = $1",
                "update t set a = $1",
                "COMMIT",
            ]
        }
