"""What a client sees through a PostgreSQL proxy: nothing, until a step is set; then the network's faults."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from reattach.api.effects import Front, NameRule, Phase
from reattach.api.history import Read
from reattach.fixtures.postgres.databases import DatabaseServer
from reattach.fixtures.postgres.protocol import Row
from reattach.fixtures.processes import wait_for
from reattach.witness.postgres.connection import PostgresConnection
from test_runner.unit.witness.proxied import SECONDS, ProxiedWorld
from test_runner.unit.witness.target import RawSession, Target, message

BEFORE, AFTER = Phase.BEFORE, Phase.AFTER
DONE = "performed 0, answered 0"
Client = psycopg.Connection[Row]
Way = Callable[[Client], None]


@pytest.fixture
def client(target: Target) -> Iterator[Client]:
    with psycopg.connect(target.proxied, autocommit=True) as connection:
        yield connection


class TestEffects:
    """What is an effect, and what it is called."""

    def test_autocommit(self, target: Target, witness: ProxiedWorld, client: Client) -> None:
        client.execute("insert into t values (1)")
        client.execute("insert into t values (%s)", [2])
        client.execute("select * from t")
        assert target.rows() == [1, 2]
        assert witness.outcomes() == [("commit insert t #1", DONE), ("commit insert t #2", DONE)]

    def test_block(self, target: Target, witness: ProxiedWorld, client: Client) -> None:
        with client.transaction():
            client.execute("insert into t values (1)")
            client.execute("update t set a = %s", [3])
            client.execute("update t set a = %s", [4])
            assert witness.outcomes() == []
        assert target.rows() == [4]
        assert witness.outcomes() == [("commit insert t; update t #1", DONE)]
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
        assert effect.performed is not None
        assert effect.performed.answer == {"tags": ["COMMIT"]}

    @pytest.mark.parametrize(
        ("queries", "names"),
        [
            (["begin", "insert into t values (1)", "rollback"], []),
            (["begin", "select * from t for update", "commit"], []),
            (["begin; insert into t values (1); commit; insert into t values (2)"], ["insert t"]),
            (
                ["begin", "insert into t values (1)", "commit and chain", "delete from t", "commit"],
                ["insert t", "delete t"],
            ),
            (
                ["begin", "savepoint s", "insert into t values (1)", "rollback to s", "delete from t", "end"],
                ["delete t"],
            ),
            (
                ["create table u (a int)", "vacuum u", "drop table u"],
                ["create table u", "vacuum u", "drop table u"],
            ),
            (["do $$ begin insert into t values (1); commit; end $$"], ["do"]),
            (["prepare p (int) as insert into t values ($1)", "execute p (1)"], ["insert t"]),
            (["notify news"], ["notify news"]),
            (["listen news", "set application_name = 'x'", "show all"], []),
        ],
        ids=lambda value: "; ".join(value)[:40] if value else "nothing",
    )
    def test_of_simple_queries(
        self, queries: list[str], names: list[str], witness: ProxiedWorld, client: Client
    ) -> None:
        for query in queries:
            client.execute(query.encode())
        assert witness.outcomes() == [(f"commit {name} #1", DONE) for name in names]

    def test_of_the_extended_protocol(self, target: Target, witness: ProxiedWorld, client: Client) -> None:
        """Every statement with Parse, Bind, Execute, transaction control too."""
        for query in ("begin", "insert into t values (1)", "commit", "vacuum t", "do 'begin end'"):
            client.execute(query.encode(), prepare=True, binary=True)
        assert target.rows() == [1]
        assert witness.outcomes() == [(f"commit {name} #1", DONE) for name in ("insert t", "vacuum t", "do")]

    def test_pipeline(self, target: Target, witness: ProxiedWorld, client: Client) -> None:
        """Two transactions and one of its own, all sent before anything is answered."""
        with client.pipeline():
            for query in (
                "begin",
                "insert into t values (1)",
                "commit",
                "begin",
                "insert into t values (2)",
                "rollback",
                "insert into t values (3)",
                "select * from t",
            ):
                client.execute(query.encode())
        assert target.rows() == [1, 3]
        assert witness.outcomes() == [("commit insert t #1", DONE), ("commit insert t #2", DONE)]

    def test_pipeline_that_fails(self, target: Target, witness: ProxiedWorld, client: Client) -> None:
        with pytest.raises(psycopg.errors.UniqueViolation), client.pipeline():
            client.execute("begin")
            client.execute("insert into t values (1), (1)")
            client.execute("commit")
        client.rollback()
        assert client.execute("select count(*) from t").fetchone() == (0,)
        assert witness.outcomes() == []

    def test_one_that_the_server_refuses(self, witness: ProxiedWorld, client: Client) -> None:
        """A constraint that is looked at by COMMIT only."""
        client.execute("create table d (a int unique deferrable initially deferred)")
        with pytest.raises(psycopg.errors.UniqueViolation), client.transaction():
            client.execute("insert into d values (1), (1)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            client.execute("insert into d values (%s), (1)", [1])
        assert witness.outcomes()[1:] == [
            ("commit insert d #1", "performed 500, answered 500"),
            ("commit insert d #2", "performed 500, answered 500"),
        ]
        performed = witness.history().effects()[1].performed
        assert performed is not None
        assert performed.answer["sqlstate"] == "23505"

    def test_statement_that_fails_is_none(self, witness: ProxiedWorld, client: Client) -> None:
        """In a block: there is nothing left to commit."""
        with pytest.raises(psycopg.errors.UndefinedTable), client.transaction():
            client.execute("insert into t values (1)")
            client.execute("insert into nowhere values (%s)", [1])
        client.execute("begin")
        client.execute("insert into t values (1)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            client.execute("insert into t values (1)")
        client.execute("commit")
        assert witness.outcomes() == []

    def test_two_phases(self, witness: ProxiedWorld, client: Client) -> None:
        """The server here has no prepared transactions, and says so."""
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            client.execute(b"begin; insert into t values (1); prepare transaction 'x'")
        assert witness.outcomes() == [
            ("commit insert t; prepare transaction #1", "performed 500, answered 500")
        ]

    @pytest.mark.parametrize("is_block", [False, True])
    @pytest.mark.parametrize("is_binary", [False, True])
    def test_copy(
        self, is_block: bool, is_binary: bool, target: Target, witness: ProxiedWorld, client: Client
    ) -> None:
        with client.transaction() if is_block else nullcontext(), client.cursor() as cursor:
            statement = f"copy t from stdin {'binary' if is_binary else ''}"
            with cursor.copy(statement.encode()) as copy:
                copy.set_types(["int4"])
                for a in range(1000):
                    copy.write_row([a])
        assert target.rows() == list(range(1000))
        assert witness.outcomes() == [("commit copy t #1", DONE)]
        with client.cursor() as cursor, cursor.copy("copy t to stdout") as copy:
            assert b"".join(copy) == b"".join(b"%d\n" % a for a in range(1000))

    @pytest.mark.parametrize("is_extended", [False, True])
    @pytest.mark.parametrize("copy_chunks", [False, True])
    def test_copy_that_waits_for_nothing(
        self, is_extended: bool, copy_chunks: bool, target: Target, witness: ProxiedWorld
    ) -> None:
        """Statement, data and end are sent at once, before the server says that it wants data."""
        port = witness.listen(Front.POSTGRES, target.port, copy_chunks=copy_chunks)
        begin = [message(b"Q", b"copy t from stdin\0")]
        end = [message(b"c")]
        if is_extended:
            parse = message(b"P", b"\0copy t from stdin\0\0\0")
            begin = [parse, message(b"B", bytes(8)), message(b"E", bytes(5))]
            end.append(message(b"S"))
        with RawSession(make_conninfo(target.dsn, host="127.0.0.1", port=port)) as session:
            for a in range(20):
                session.send(*begin, message(b"d", b"%d\n" % a), message(b"d", b"%d\n" % (100 + a)), *end)
                assert [one[:1] for one in session.until_ready()][-3:] == [b"G", b"C", b"Z"]
        assert target.rows() == [*range(20), *range(100, 120)]
        names = [name.partition(" #")[0] for name, became in witness.outcomes() if became == DONE]
        chunks = ["copy-data t"] * 2 if copy_chunks else []
        assert names == [*chunks, "commit copy t"] * 20

    def test_copy_that_is_given_up(self, target: Target, witness: ProxiedWorld, client: Client) -> None:
        with (
            pytest.raises(ZeroDivisionError),
            client.cursor() as cursor,
            cursor.copy("copy t from stdin") as copy,
        ):
            copy.write_row([1])
            raise ZeroDivisionError
        assert client.execute("select count(*) from t").fetchone() == (0,)
        assert witness.outcomes() == []

    def test_copy_of_bad_rows(self, witness: ProxiedWorld, client: Client) -> None:
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            with client.cursor() as cursor, cursor.copy("copy t from stdin") as copy:
                copy.write(b"1\nx\n")
        assert client.execute("select 1").fetchone() == (1,)
        assert witness.outcomes() in ([], [("commit copy t #1", "performed 500, answered 500")])

    def test_read_by_rule(self, target: Target, database_server: DatabaseServer, tmp_path: Path) -> None:
        """A name rule says that a function of the user's only reads."""
        rule = NameRule(front=Front.POSTGRES, method="commit", target="select my_.*", verb="ask", reads=True)
        with ProxiedWorld(tmp_path / "other", (rule,)) as witness:
            with psycopg.connect(target.dsn, autocommit=True) as direct:
                direct.execute("create function my_age() returns int language sql as 'select 1'")
            port = witness.listen(Front.POSTGRES, target.port)
            with psycopg.connect(target.dsn, port=port, host="127.0.0.1", autocommit=True) as client:
                assert client.execute("select my_age()").fetchone() == (1,)
                assert client.execute("select my_age() + %s", [1]).fetchone() == (2,)
            assert witness.outcomes() == []
            reads = [line for line in witness.history().lines if isinstance(line, Read)]
            assert [line.name for line in reads] == ["loader > db: ask"] * 2


def insert(client: Client) -> None:
    client.execute("insert into t values (1)")


def insert_extended(client: Client) -> None:
    client.execute("insert into t values (%s)", [1])


def block(client: Client) -> None:
    with client.transaction():
        client.execute("insert into t values (%s)", [1])


def pipeline(client: Client) -> None:
    with client.pipeline(), client.transaction():
        client.execute("insert into t values (%s)", [1])


def copy(client: Client) -> None:
    with client.cursor() as cursor, cursor.copy("copy t from stdin") as writer:
        writer.write_row([1])


def copy_binary(client: Client) -> None:
    with client.cursor() as cursor, cursor.copy("copy t from stdin (format binary)") as writer:
        writer.set_types(["int4"])
        writer.write_row([1])


WAYS = {
    "insert t": [insert, insert_extended, block, pipeline],
    "copy t": [copy, copy_binary],
}
each_way = pytest.mark.parametrize(
    ("name", "way"),
    [pytest.param(name, way, id=way.__name__) for name, ways in WAYS.items() for way in ways],
)


class TestCrashPoints:
    """What a client sees at each, whatever the way in which it commits."""

    @each_way
    def test_drop_before(
        self, name: str, way: Way, target: Target, witness: ProxiedWorld, client: Client
    ) -> None:
        witness.step(f"commit {name} #1", BEFORE, "drop")
        with pytest.raises(psycopg.OperationalError):
            way(client)
        assert client.broken
        assert witness.outcomes() == [(f"commit {name} #1", "dropped: step 1: drop")]
        assert target.rows() == []

    @each_way
    def test_lose_answer(
        self, name: str, way: Way, target: Target, witness: ProxiedWorld, client: Client
    ) -> None:
        witness.step(f"commit {name} #1", AFTER, "lose answer")
        with pytest.raises(psycopg.OperationalError):
            way(client)
        assert client.broken
        assert witness.outcomes() == [(f"commit {name} #1", "performed 0, dropped: step 1: lose answer")]
        assert target.rows() == [1]

    @each_way
    def test_answer(self, name: str, way: Way, target: Target, witness: ProxiedWorld, client: Client) -> None:
        """It is rolled back, and the connection goes on; the next try is right."""
        witness.step(f"commit {name} #1", BEFORE, "answer 409")
        with pytest.raises(psycopg.errors.SerializationFailure, match="the witness answers 409"):
            way(client)
        assert client.info.transaction_status is TransactionStatus.IDLE
        assert target.rows() == []
        way(client)
        assert target.rows() == [1]
        assert witness.outcomes() == [(f"commit {name} #1", "answered 409"), (f"commit {name} #2", DONE)]

    @each_way
    @pytest.mark.parametrize("when", [BEFORE, AFTER])
    def test_hold(
        self, when: Phase, name: str, way: Way, target: Target, witness: ProxiedWorld, client: Client
    ) -> None:
        step = witness.step(f"commit {name} #1", when, "hold")
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(way, client)
            assert witness.wait_happened().steps[0].held == (f"loader > db: commit {name} #1",)
            assert target.rows() == ([] if when is BEFORE else [1])
            assert not done.done()
            witness.release(step)
            done.result(SECONDS)
        assert target.rows() == [1]
        assert witness.outcomes() == [(f"commit {name} #1", DONE)]

    @each_way
    @pytest.mark.parametrize("when", [BEFORE, AFTER])
    def test_sender_goes_while_held(
        self, when: Phase, name: str, way: Way, target: Target, witness: ProxiedWorld, client: Client
    ) -> None:
        witness.step(f"commit {name} #1", when, "hold")
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(way, client)
            witness.wait_happened()
            # As the kernel does for a killed process.
            socket.socket(fileno=os.dup(client.fileno())).shutdown(socket.SHUT_RDWR)
            with pytest.raises(psycopg.OperationalError):
                done.result(SECONDS)
        expected = "dropped: the sender is gone"
        witness.wait_outcomes(
            (f"commit {name} #1", expected if when is BEFORE else f"performed 0, {expected}")
        )
        wait_for(lambda: target.others() == 0, what="the session to end", timeout=SECONDS)
        assert target.rows() == ([] if when is BEFORE else [1])

    def test_sender_goes_while_the_server_works(self, target: Target, witness: ProxiedWorld) -> None:
        """It is performed, and nobody was told."""
        with psycopg.connect(target.dsn) as direct:
            direct.execute("lock table t")
            with RawSession(target.proxied) as session:
                session.send(message(b"Q", b"insert into t values (1)\0"))
                witness.wait_outcomes(("commit insert t #1", ""))
        witness.wait_outcomes(("commit insert t #1", "performed 0, dropped: the sender is gone"))
        assert target.rows() == [1]

    def test_nothing_is_told_before_the_commit(self, target: Target, witness: ProxiedWorld) -> None:
        """Not what the server was asked for ahead of the Sync either."""
        step = witness.step("commit insert t #1", BEFORE, "hold")
        with RawSession(target.proxied) as session:
            parse = message(b"P", b"\0insert into t values (1)\0\0\0")
            session.send(parse, message(b"B", bytes(8)), message(b"E", bytes(5)), message(b"S"))
            witness.wait_happened()
            session.socket.setblocking(False)
            with pytest.raises(BlockingIOError):
                session.socket.recv(1)
            session.socket.settimeout(SECONDS)
            witness.release(step)
            assert [one[:1] for one in session.until_ready()] == [b"1", b"2", b"C", b"Z"]

    def test_status_becomes_a_code(self, witness: ProxiedWorld, client: Client) -> None:
        for number, (status, code) in enumerate({503: "57P03", 500: "XX000", 429: "53300"}.items(), start=1):
            witness.step(f"commit insert t #{number}", BEFORE, f"answer {status}")
            with pytest.raises(psycopg.Error) as caught:
                insert(client)
            assert caught.value.sqlstate == code

    def test_chunks(self, target: Target, witness: ProxiedWorld) -> None:
        """Each message of a COPY is an effect if it is asked for."""
        port = witness.listen(Front.POSTGRES, target.port, copy_chunks=True)
        with psycopg.connect(target.dsn, host="127.0.0.1", port=port, autocommit=True) as client:
            copy_chunks(client, 0, 1)
            assert target.rows() == list(range(2 * CHUNK_ROWS))
            assert witness.outcomes() == [
                ("copy-data t #1", DONE),
                ("copy-data t #2", DONE),
                ("commit copy t #1", DONE),
            ]
            witness.step("copy-data t #4", BEFORE, "answer 503")
            with pytest.raises(psycopg.errors.CannotConnectNow):
                copy_chunks(client, 2, 3, 4)
            assert client.execute("select 1").fetchone() == (1,)
            witness.step("copy-data t +2", AFTER, "lose answer")
            with pytest.raises(psycopg.OperationalError):
                copy_chunks(client, 2, 3)
        assert target.rows() == list(range(2 * CHUNK_ROWS))
        assert witness.outcomes()[3:] == [
            ("copy-data t #3", DONE),
            ("copy-data t #4", "answered 503"),
            ("copy-data t #5", DONE),
            ("copy-data t #6", "performed 0, dropped: step 2: lose answer"),
        ]


CHUNK_ROWS = 10_000
"""More than psycopg collects before it sends a message."""


def copy_chunks(client: Client, *chunks: int) -> None:
    """A COPY whose messages have so many rows each."""
    with client.cursor() as cursor, cursor.copy("copy t from stdin") as writer:
        for chunk in chunks:
            rows = range(chunk * CHUNK_ROWS, (chunk + 1) * CHUNK_ROWS)
            writer.write("".join(f"{a}\n" for a in rows))


class TestNetwork:
    """Faults that nobody has set."""

    def test_upstream_that_is_away(self, witness: ProxiedWorld) -> None:
        """An accepted connection that is reset: the nearest to a refused one."""
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = witness.listen(Front.POSTGRES, sock.getsockname()[1])
            # It may come before `connect` returns.
            with pytest.raises(ConnectionResetError):
                with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
                    client.recv(1)

    def test_server_that_dies(self, target: Target, witness: ProxiedWorld, client: Client) -> None:
        """It ends a session while the effect is held before: the client hears of it as it would."""
        witness.step("commit insert t #1", BEFORE, "hold")
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(block, client)
            witness.wait_happened()
            with psycopg.connect(target.dsn) as direct:
                direct.execute("select pg_terminate_backend(%s)", [client.info.backend_pid])
            with pytest.raises(psycopg.errors.AdminShutdown):
                done.result(SECONDS)
        assert witness.outcomes() == [("commit insert t #1", "dropped: the peer is gone")]

    def test_cancel(self, client: Client) -> None:
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(client.execute, "select pg_sleep(60)")
            wait_for(
                lambda: client.pgconn.transaction_status == TransactionStatus.ACTIVE,
                what="it",
                timeout=SECONDS,
            )
            while not done.done():
                client.cancel_safe()
                wait([done], 0.05)
            with pytest.raises(psycopg.errors.QueryCanceled):
                done.result(SECONDS)

    def test_cancel_without_waiting(self, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
        """Some clients send the request and are gone before the proxy has reached the server."""
        with RawSession(target.proxied) as session:
            session.send(message(b"Q", b"select pg_sleep(60)\0"))
            with psycopg.connect(target.dsn, autocommit=True) as direct:
                asleep = "select 1 from pg_stat_activity where wait_event = 'PgSleep'"
                wait_for(lambda: direct.execute(asleep).fetchone(), what="pg_sleep", timeout=SECONDS)
            connect = PostgresConnection._connect

            async def slowly(connection: PostgresConnection) -> None:
                while not connection.client.is_over:
                    await asyncio.sleep(0.001)
                await connect(connection)

            monkeypatch.setattr(PostgresConnection, "_connect", slowly)
            with socket.create_connection(session.address, SECONDS) as other:
                other.sendall(struct.pack("!II", 16, 80877102) + session.key)
            assert b"57014" in b"".join(session.until_ready())

    def test_encryption_is_refused(self, target: Target) -> None:
        with pytest.raises(psycopg.OperationalError, match="SSL"):
            psycopg.connect(target.proxied, sslmode="require")

    @pytest.mark.parametrize("text", [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x05xxxxxx"])
    def test_not_postgres(self, text: bytes, target: Target, witness: ProxiedWorld) -> None:
        port = int(str(conninfo_to_dict(target.proxied)["port"]))
        with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
            client.sendall(text)
            with pytest.raises(ConnectionResetError):
                client.recv(1)

    def test_killed_client(self, target: Target, witness: ProxiedWorld, tmp_path: Path) -> None:
        """A process that is killed after its commit: it is done, and nobody was told."""
        program = tmp_path / "client.py"
        program.write_text(
            "import psycopg, sys\n"
            "connection = psycopg.connect(sys.argv[1], autocommit=True)\n"
            "connection.execute('insert into t values (1)')\n"
            "print('told', flush=True)\n"
        )
        with subprocess.Popen(
            [sys.executable, program, target.proxied], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            # The step must be there before the client has come so far.
            os.kill(process.pid, signal.SIGSTOP)
            witness.start_process("loader", process.pid)
            witness.step("commit insert t #1", AFTER, "kill loader")
            os.kill(process.pid, signal.SIGCONT)
            output, _ = process.communicate(timeout=SECONDS)
        assert (process.returncode, output) == (-signal.SIGKILL, b"")
        assert target.rows() == [1]
        witness.wait_outcomes(("commit insert t #1", "performed 0, dropped: step 1: loader was killed"))
