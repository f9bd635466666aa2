"""Other clients work through a PostgreSQL proxy as they do without one, and their commits are seen."""

from __future__ import annotations

import asyncio
import io
import subprocess
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import psycopg
import psycopg2
import psycopg2.errors
import psycopg2.extras
import pytest
from psycopg.conninfo import conninfo_to_dict

from reattach.api.effects import Phase
from reattach.fixtures.pg_version import PgVersion
from reattach.fixtures.postgres.distributions import Distribution
from test_runner.unit.witness.proxied import SECONDS, ProxiedWorld
from test_runner.unit.witness.target import Target

DONE = "performed 0, answered 0"
ROWS = 5_000


def committed(witness: ProxiedWorld) -> list[str]:
    """What was committed, without numbers. Everything else fails."""
    outcomes = witness.outcomes()
    assert {became for _, became in outcomes} <= {DONE}
    return [name.removeprefix("commit ").rpartition(" #")[0] for name, _ in outcomes]


class TestPsycopg2:
    def test_transactions_and_copy(self, target: Target, witness: ProxiedWorld) -> None:
        connection = psycopg2.connect(target.proxied)
        with connection, connection.cursor() as cursor:
            psycopg2.extras.execute_values(cursor, "insert into t values %s", [(a,) for a in range(ROWS)])
        with connection, connection.cursor() as cursor:
            cursor.copy_expert("copy t from stdin", io.StringIO(f"{ROWS}\n"))
            output = io.StringIO()
            cursor.copy_expert("copy (select a from t order by a) to stdout", output)
        with connection, connection.cursor("server side") as cursor:
            cursor.execute("select a from t order by a")
            assert [a for (a,) in cursor] == list(range(ROWS + 1))
        connection.close()
        assert output.getvalue() == "".join(f"{a}\n" for a in range(ROWS + 1))
        assert committed(witness) == ["insert t", "copy t"]

    def test_errors(self, target: Target, witness: ProxiedWorld) -> None:
        witness.step("commit insert t #1", Phase.BEFORE, "answer 409")
        connection = psycopg2.connect(target.proxied)
        with pytest.raises(psycopg2.errors.SerializationFailure), connection, connection.cursor() as cursor:
            cursor.execute("insert into t values (1)")
        with connection, connection.cursor() as cursor:
            cursor.execute("insert into t values (2)")
        connection.close()
        assert target.rows() == [2]


async def connect(target: Target) -> asyncpg.Connection:
    options = conninfo_to_dict(target.proxied)
    return await asyncpg.connect(
        host="127.0.0.1", port=options["port"], user=options["user"], database=options["dbname"]
    )


class TestAsyncpg:
    """It prepares everything, with Flush in between, and has its own COPY."""

    def test_everything(self, target: Target, witness: ProxiedWorld) -> None:
        async def run() -> None:
            connection = await connect(target)
            await connection.execute("insert into t values (1)")
            await connection.execute("insert into t values ($1)", 2)
            async with connection.transaction():
                await connection.executemany("insert into t values ($1)", [(3,), (4,)])
                async with connection.transaction():
                    await connection.execute("update t set a = 5 where a = 4")
            with pytest.raises(ZeroDivisionError):
                async with connection.transaction():
                    await connection.execute("delete from t")
                    raise ZeroDivisionError
            await connection.executemany("insert into t values ($1)", [(a,) for a in range(10, 1000)])
            await connection.copy_records_to_table("t", records=[(a,) for a in range(1000, ROWS)])
            assert await connection.fetchval("select count(*) from t") == ROWS - 6
            async with connection.transaction():
                found = [row["a"] async for row in connection.cursor("select a from t order by a")]
            assert found == [1, 2, 3, 5, *range(10, ROWS)]
            await connection.close()

        asyncio.run(run())
        assert committed(witness) == [
            "insert t",
            "insert t",
            "insert t; update t",
            "insert t",
            "copy t",
        ]

    def test_cancel_and_errors(self, target: Target, witness: ProxiedWorld) -> None:
        async def run() -> None:
            connection = await connect(target)
            with pytest.raises(asyncio.TimeoutError):
                await connection.execute("select pg_sleep(60)", timeout=0.05)
            await connection.execute("insert into t values (1)")
            with pytest.raises(asyncpg.UniqueViolationError):
                await connection.execute("insert into t values ($1)", 1)
            with pytest.raises(asyncpg.SerializationError):
                await connection.execute("insert into t values ($1)", 2)
            await connection.execute("insert into t values ($1)", 3)
            await connection.close()

        witness.step("commit insert t #2", Phase.BEFORE, "answer 409")
        asyncio.run(run())
        assert target.rows() == [1, 3]

    def test_news(self, target: Target, witness: ProxiedWorld) -> None:
        async def run() -> list[object]:
            listener, speaker = await connect(target), await connect(target)
            heard: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()
            await listener.add_listener("news", lambda *what: heard.set_result(list(what[2:])))
            await speaker.execute("notify news, 'one'")
            return await asyncio.wait_for(heard, SECONDS)

        assert asyncio.run(run()) == ["news", "one"]
        assert committed(witness) == ["notify news"]


class TestAsyncPsycopg:
    def test_everything(self, target: Target, witness: ProxiedWorld) -> None:
        async def run() -> None:
            async with await psycopg.AsyncConnection.connect(target.proxied) as connection:
                async with connection.pipeline(), connection.cursor() as cursor:
                    await cursor.executemany("insert into t values (%s)", [(a,) for a in range(ROWS)])
                await connection.commit()
                async with connection.cursor(binary=True) as cursor:
                    await cursor.execute("select a from t order by a")
                    assert [a async for (a,) in cursor] == list(range(ROWS))

        asyncio.run(run())
        assert committed(witness) == ["insert t"]


class TestPrograms:
    """PostgreSQL's own."""

    @pytest.fixture
    def run(self, pg_distributions: Mapping[int, Distribution]) -> Run:
        return Run(pg_distributions[int(PgVersion.DEFAULT)])

    def test_psql(self, target: Target, witness: ProxiedWorld, run: Run, tmp_path: Path) -> None:
        script = tmp_path / "script.sql"
        script.write_text(
            "create table u (a int, b text);\n"
            "begin; insert into u values (1, 'x;y'); insert into t values (1); commit;\n"
            "copy u from stdin;\n2\ta\n3\tb\n\\.\n"
            "insert into t values (2) \\; delete from t where a = 1;\n"
            "select * from u order by a;\n"
            "\\d u\n"
        )
        output = run("psql", target.proxied, "-v", "ON_ERROR_STOP=1", "-At", "-q", "-f", str(script))
        assert output.startswith("1|x;y\n2|a\n3|b\n")
        assert committed(witness) == ["create table u", "insert u; insert t", "copy u", "insert t; delete t"]
        assert target.rows() == [2]
        script.write_text("insert into t values (3);\ndelete from t;\n")
        run("psql", target.proxied, "--single-transaction", "-q", "-f", str(script))
        assert committed(witness)[-1] == "insert t; delete t"

    @pytest.mark.parametrize("form", ["plain", "custom"])
    def test_dump_and_restore(
        self, form: str, target: Target, witness: ProxiedWorld, run: Run, tmp_path: Path
    ) -> None:
        with psycopg.connect(target.dsn) as direct:
            direct.execute("insert into t select generate_series(1, 20000)")
        path = tmp_path / "dump"
        run("pg_dump", target.proxied, "--format", form, "--file", str(path))
        assert committed(witness) == []
        with psycopg.connect(target.dsn) as direct:
            direct.execute("drop table t")
        if form == "plain":
            run("psql", target.proxied, "-q", "-v", "ON_ERROR_STOP=1", "-f", str(path))
        else:
            run("pg_restore", "--dbname", target.proxied, "--exit-on-error", str(path))
        assert target.rows() == list(range(1, 20_001))
        assert [name for name in committed(witness) if not name.startswith("alter table")] == [
            "create table public.t",
            "copy public.t",
        ]

    @pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
    def test_pgbench(self, mode: str, target: Target, witness: ProxiedWorld, run: Run) -> None:
        run("pgbench", "--initialize", "--scale", "1", "--no-vacuum", "--quiet", target.proxied)
        before = len(committed(witness))
        run("pgbench", "-c", "2", "-t", "20", "--no-vacuum", "--protocol", mode, target.proxied)
        name = (
            "update pgbench_accounts; update pgbench_tellers; update pgbench_branches; insert pgbench_history"
        )
        assert committed(witness)[before:] == [name] * 40


class Run:
    """Runs a program of a distribution to its end, and returns what it prints."""

    def __init__(self, distribution: Distribution) -> None:
        self._distribution = distribution

    def __call__(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [self._distribution.program(program), *arguments],
            env=self._distribution.environment(),
            capture_output=True,
            text=True,
            timeout=6 * SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
