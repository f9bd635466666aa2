"""The libpq port: what real clients get, and that nothing a client sends ends the server."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from reattach.api.ids import TenantId, TenantShardId, TimelineId
from reattach.api.key import RelTag
from reattach.api.lsn import Lsn
from reattach.api.shard import ShardIdentity
from reattach.fixtures.backup.fetch import BackupFailed, fetch_fullbackup
from reattach.fixtures.backup.restore import Restore
from reattach.fixtures.backup.tar import BadTar, TarReader
from reattach.pageserver.fullbackup.stream import Backup, open_backup
from reattach.pageserver.page_service import connection
from reattach.pageserver.page_service.server import serve_page_service
from reattach.runtime.auth import Claims, Scope
from reattach.runtime.errors import NotFound, Unauthorized
from test_runner.unit.fullbackup.directory_source import DirectorySource
from test_runner.unit.fullbackup.pgdata import make_pgdata

TENANT = TenantId("11" * 16)
OTHER_TENANT = TenantId("33" * 16)
TIMELINE = TimelineId("22" * 16)
BROKEN = TimelineId("bb" * 16)
PANICS = TimelineId("cc" * 16)
GONE = TimelineId("dd" * 16)
PASSWORD = "pageserverapi"
SECONDS = 10


class RunningService:
    """Serves a data directory from a thread of its own."""

    def __init__(self, pgdata: Path, *, with_password: bool = False) -> None:
        self.pgdata = pgdata
        self.asked: list[tuple[TenantShardId, TimelineId, Lsn | None]] = []
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.sock.getsockname()[1]
        check = _check_password if with_password else None
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(serve_page_service(self.sock, self._open, check))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self.sock:
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._task)
            self._loop.close()

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    async def _open(self, shard: TenantShardId, timeline_id: TimelineId, lsn: Lsn | None) -> Backup:
        self.asked.append((shard, timeline_id, lsn))
        if timeline_id == GONE:
            raise NotFound(f"Timeline {shard}/{timeline_id} was not found")
        if timeline_id == PANICS:
            raise ZeroDivisionError("a mistake of ours")
        source = DirectorySource(self.pgdata, ShardIdentity(shard.shard_number, shard.shard_count, 4))
        if timeline_id == BROKEN:
            key = RelTag(1663, 5, 16384, 0).size_key()
            source.store[key] = (100_000).to_bytes(8, "little")
        return await open_backup(source)

    def connstr(self, **options: str) -> str:
        return psycopg.conninfo.make_conninfo(host="127.0.0.1", port=self.port, user="cloud_admin", **options)

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def assert_serves(self) -> None:
        assert b"".join(fetch_fullbackup(self.connstr(), TENANT, TIMELINE))[-1024:] == bytes(1024)


def _check_password(token: str) -> Claims:
    """The password is the token's claims: a scope and perhaps a tenant."""
    scope, _, tenant = token.partition(" of ")
    try:
        return Claims(Scope(scope), TenantId(tenant) if tenant else None)
    except ValueError:
        raise Unauthorized("malformed token") from None


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    running = RunningService(make_pgdata(tmp_path / "source"))
    yield running
    running.close()


def startup(code: int = 196608, **parameters: str) -> bytes:
    body = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items())
    packet = struct.pack(">i", code) + (body + b"\0" if code >> 16 == 3 else body)
    return struct.pack(">i", len(packet) + 4) + packet


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack(">i", len(body) + 4) + body


def received(sock: socket.socket) -> bytes:
    """All that the server sends until it closes the connection."""
    parts = []
    while part := sock.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def test_command_reaches_the_timeline(service: RunningService) -> None:
    shard = TenantShardId(TENANT, 1, 4)
    assert b"".join(fetch_fullbackup(service.connstr(), shard, TIMELINE, Lsn("1/2AB")))
    assert b"".join(fetch_fullbackup(service.connstr(), TENANT, TIMELINE))
    assert service.asked == [
        (shard, TIMELINE, Lsn("1/2AB")),
        (TenantShardId.unsharded(TENANT), TIMELINE, None),
    ]


def test_one_connection_many_commands(service: RunningService) -> None:
    """An error leaves the connection usable, also one in the middle of a tar."""
    with psycopg.connect(service.connstr(), autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SET statement_timeout TO 10")
        for command, reason in {
            "select 1": "unsupported command: select",
            f"fullbackup {TENANT}": "a tenant, a timeline and at most two LSNs",
            f"fullbackup {TENANT} zz": "32 hex digits",
            f"fullbackup {TENANT} {TIMELINE} 12": "an LSN looks like",
            f"fullbackup {TENANT} {GONE}": "was not found",
            f"fullbackup {TENANT} {PANICS}": "a mistake of ours",
        }.items():
            with pytest.raises(psycopg.Error, match=reason), cursor.copy(command.encode()) as copy:
                list(copy)
        with pytest.raises(psycopg.Error, match="could not find data for key"):
            with cursor.copy(f"fullbackup {TENANT} {BROKEN}".encode()) as copy:
                list(copy)
        with cursor.copy(f"fullbackup {TENANT} {TIMELINE};".encode()) as copy:
            assert bytes(list(copy)[-1])[-1024:] == bytes(1024)


def test_parameters_are_refused_and_the_connection_goes_on(service: RunningService) -> None:
    with psycopg.connect(service.connstr(), autocommit=True) as connection, connection.cursor() as cursor:
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="only simple queries"):
            cursor.execute("fullbackup %s %s", (str(TENANT), str(TIMELINE)))
        cursor.execute("set x to y")


def test_extended_query_is_answered_once(service: RunningService) -> None:
    """One error, then nothing until the client synchronises, as the protocol demands."""
    messages = [message(kind) for kind in (b"P", b"B", b"D", b"E", b"S")]
    with service.raw() as sock:
        sock.sendall(startup(user="x") + b"".join(messages) + message(b"Q", b"set x to y\0") + message(b"X"))
        answer = received(sock)
    after_login = answer.partition(message(b"Z", b"I"))[2]
    error, ready, rest = after_login.partition(message(b"Z", b"I"))
    assert error.startswith(b"E")
    assert struct.unpack_from(">i", error, 1) == (len(error) - 1,)
    assert rest == message(b"C", b"SET\0") + ready


def test_error_in_the_middle_reaches_the_reader(service: RunningService, tmp_path: Path) -> None:
    restore = Restore(tmp_path / "copy")
    with pytest.raises(BackupFailed, match="could not find data for key"):
        restore.add(TarReader(fetch_fullbackup(service.connstr(), TENANT, BROKEN)), "0000")


def test_a_tar_that_ends_early_is_noticed(service: RunningService, tmp_path: Path) -> None:
    whole = b"".join(fetch_fullbackup(service.connstr(), TENANT, TIMELINE))
    with pytest.raises(BadTar, match="ends before it is complete"):
        Restore(tmp_path / "copy").add(TarReader([whole[: len(whole) // 2]]), "0000")


@pytest.mark.parametrize("mode", ["prefer", "disable"])
def test_encryption_is_refused(service: RunningService, mode: str) -> None:
    with psycopg.connect(service.connstr(sslmode=mode), autocommit=True) as connection:
        connection.execute("set x to y")
    with pytest.raises(psycopg.OperationalError, match="server does not support SSL"):
        psycopg.connect(service.connstr(sslmode="require"), connect_timeout=SECONDS)


def test_password(tmp_path: Path) -> None:
    service = RunningService(make_pgdata(tmp_path / "source"), with_password=True)
    try:
        with pytest.raises(psycopg.OperationalError, match="malformed token"):
            psycopg.connect(service.connstr(password="guess"))
        assert list(fetch_fullbackup(service.connstr(password=PASSWORD), TENANT, TIMELINE))
        with service.raw() as sock:
            sock.sendall(startup(user="x") + message(b"Q", b"set x to y\0"))
            assert b"expected a password" in received(sock)
    finally:
        service.close()


@pytest.mark.parametrize(
    "password",
    [f"tenant of {OTHER_TENANT}", "admin", "generations_api", "safekeeperdata", "infra", "scrubber"],
)
def test_a_token_is_good_for_its_own_tenant(tmp_path: Path, password: str) -> None:
    """Not even whether the timeline exists is told to others; the connection goes on."""
    service = RunningService(make_pgdata(tmp_path / "source"), with_password=True)
    try:
        with psycopg.connect(service.connstr(password=password), autocommit=True) as connection:
            for timeline in (TIMELINE, GONE):
                for shard in (TENANT, f"{TENANT}-0104"):
                    with (
                        pytest.raises(psycopg.errors.InsufficientPrivilege, match="JWT authentication error"),
                        connection.cursor().copy(f"fullbackup {shard} {timeline}") as copy,
                    ):
                        assert not list(copy)
            connection.execute("set x to y")
        assert service.asked == []
        own = service.connstr(password=f"tenant of {TENANT}")
        assert list(fetch_fullbackup(own, TENANT, TIMELINE))
    finally:
        service.close()


def test_newer_minor_version_is_negotiated(service: RunningService) -> None:
    with service.raw() as sock:
        sock.sendall(startup((3 << 16) | 2, user="x", **{"_pq_.option": "1"}) + message(b"X"))
        answer = received(sock)
    assert answer.startswith(message(b"v", struct.pack(">ii", 0, 1) + b"_pq_.option\0"))
    assert message(b"R", struct.pack(">i", 0)) in answer
    assert answer.endswith(message(b"Z", b"I"))


GARBAGE = {
    "nothing": b"",
    "half a length": b"\0\0",
    "length too small": struct.pack(">i", 3),
    "negative length": struct.pack(">i", -1) + b"x" * 100,
    "length too large": struct.pack(">i", 1 << 30) + b"x" * 100,
    "half a packet": struct.pack(">ii", 100, 196608) + b"user",
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "old protocol": startup(2 << 16),
    "no terminator": struct.pack(">ii", 12, 196608) + b"user",
    "odd parameters": struct.pack(">ii", 14, 196608) + b"user\0\0"[:6],
    "cancel request": startup(80877102) + b"12345678",
    "bytes after a password": startup(user="x") + message(b"p", b"secret\0"),
    "unknown type": startup(user="x") + message(b"\xff", b"..."),
    "length below itself": startup(user="x") + b"Q" + struct.pack(">i", 3),
    "huge query": startup(user="x") + b"Q" + struct.pack(">i", 1 << 30),
    "no text": startup(user="x") + message(b"Q", b"set"),
    "two texts": startup(user="x") + message(b"Q", b"set\0set\0"),
    "not UTF-8": startup(user="\xff") + message(b"Q", b"\xff\xfe\0"),
}


@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_ends_only_its_own_connection(service: RunningService, sent: bytes) -> None:
    with service.raw() as sock:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        received(sock)
    service.assert_serves()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (message(b"\xff"), "invalid frontend message type"),
        (b"Q" + struct.pack(">i", 1 << 30), "invalid message length: 1073741824"),
        (b"Q" + struct.pack(">i", 3), "invalid message length: 3"),
        (message(b"Q", b"set"), "a text is not zero-terminated"),
    ],
)
def test_breach_of_protocol_is_told(service: RunningService, sent: bytes, reason: str) -> None:
    """At once, and not when the client has sent all that it announced."""
    with service.raw() as sock:
        sock.sendall(startup(user="x") + sent)
        assert f"C08P01\0M{reason}".encode() in received(sock)


def test_client_that_leaves_in_the_middle_harms_nobody(service: RunningService) -> None:
    for _ in range(3):
        with service.raw() as sock:
            sock.sendall(startup(user="x") + message(b"Q", f"fullbackup {TENANT} {TIMELINE}\0".encode()))
            assert sock.recv(100)
            # Unread data make the close a reset.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    service.assert_serves()


def test_slow_client_does_not_hold_up_another(service: RunningService) -> None:
    with service.raw() as sock:
        sock.sendall(startup(user="x") + message(b"Q", f"fullbackup {TENANT} {TIMELINE}\0".encode()))
        service.assert_serves()


def test_stopping_cuts_clients_off(service: RunningService) -> None:
    with service.raw() as sock:
        sock.sendall(startup(user="x"))
        assert sock.recv(1)
        service.close()
        received(sock)
    with pytest.raises(ConnectionRefusedError):
        service.raw()


STARTUP = struct.pack(">ii", 8 + 8, 3 << 16) + b"user\0x\0\0"


@pytest.mark.parametrize(
    ("sent", "limit"),
    [
        (b"", "HANDSHAKE_SECONDS"),
        (b"\0\0", "HANDSHAKE_SECONDS"),
        (STARTUP[:10], "HANDSHAKE_SECONDS"),
        (STARTUP, "IDLE_SECONDS"),
        (STARTUP + b"Q", "MESSAGE_SECONDS"),
        (STARTUP + b"Q\0\0\0\x10sel", "MESSAGE_SECONDS"),
    ],
)
def test_a_client_that_falls_silent_is_let_go(
    service: RunningService, monkeypatch: pytest.MonkeyPatch, sent: bytes, limit: str
) -> None:
    """Whatever it is in the middle of."""
    monkeypatch.setattr(connection, limit, 0.2)
    with socket.create_connection(("127.0.0.1", service.port), timeout=SECONDS) as client:
        client.sendall(sent)
        while client.recv(65536):
            pass


def test_a_client_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SEND_SECONDS", 0.2)

    async def never(*_: object) -> Backup:
        raise AssertionError

    async def send() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            await connection.Connection(ours, never, None)._send(bytes(1 << 26))

    with pytest.raises(Exception, match=r"it took nothing for 0\.2 s"):
        asyncio.run(asyncio.wait_for(send(), SECONDS))
