"""Without steps a server gets what the client sends, and the client what the server answers, byte for byte.

But for the Flush that the proxy sends to learn what a commit will be about.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reattach.api.effects import Front
from test_runner.unit.witness.proxied import SECONDS, ProxiedWorld
from test_runner.unit.witness.target import message

STARTUP = struct.pack("!II", 8, 196608)
FLUSH = b"H\0\0\0\x04"
READY = b"Z\0\0\0\x05"

READS = ["select 1", "begin", "set x = 1", "savepoint a", "rollback"]
WRITES = ["insert into t values (1)", "commit", "create table u ()", "begin; delete from t; commit", "vacuum"]
statements = st.sampled_from([*READS, *WRITES])
units = st.lists(st.tuples(st.booleans(), statements), min_size=1, max_size=8)
cuts = st.lists(st.integers(1, 50), max_size=30)


class Server:
    """Answers as PostgreSQL would, by a model of its own: Execute and Query succeed. Keeps what it got."""

    def __init__(self) -> None:
        self.received = b""
        self.sent = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.received = await reader.readexactly(8)
        in_block = False
        self._send(writer, message(b"R", bytes(4)) + READY + b"I")
        while True:
            try:
                head = await reader.readexactly(5)
                body = await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
            except asyncio.IncompleteReadError:
                break
            if head + body == FLUSH:
                continue
            self.received += head + body
            text = body.rstrip(b"\0").rpartition(b"\0")[2].decode() if head[:1] in b"PQ" else ""
            match head[:1]:
                case b"P":
                    parsed = text or body.split(b"\0")[1].decode()
                    self._send(writer, message(b"1"))
                case b"B":
                    self._send(writer, message(b"2"))
                case b"E":
                    in_block = self._after(parsed, in_block)
                    self._send(writer, message(b"C", parsed.encode() + b"\0"))
                case b"S":
                    self._send(writer, READY + (b"T" if in_block else b"I"))
                case b"Q":
                    for one in text.split(";"):
                        in_block = self._after(one.strip(), in_block)
                        self._send(writer, message(b"C", one.encode() + b"\0"))
                    self._send(writer, READY + (b"T" if in_block else b"I"))
        writer.close()

    @staticmethod
    def _after(statement: str, in_block: bool) -> bool:
        return statement == "begin" or (in_block and statement not in ("commit", "rollback"))

    def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        self.sent += data
        writer.write(data)


@contextmanager
def serving(witness: ProxiedWorld, server: Server) -> Iterator[int]:
    """The port of a proxy to it."""
    listening = witness.run(asyncio.start_server(server.serve, "127.0.0.1", 0))
    try:
        yield witness.listen(Front.POSTGRES, listening.sockets[0].getsockname()[1])
    finally:
        witness.call(listening.close)


async def exchange(port: int, pieces: list[bytes], answers: int) -> bytes:
    """What comes back for these pieces, sent one by one, until the server was ready so many times."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    answer = b""
    async with asyncio.timeout(SECONDS):
        while answer.count(READY) < answers:
            answer += await reader.read(1 << 16)
            assert not reader.at_eof()
        answer += b"" if answer[-6:-1] == READY else await reader.readexactly(1)
        writer.write_eof()
        answer += await reader.read()
    writer.close()
    return answer


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedWorld]:
    with ProxiedWorld(tmp_path_factory.mktemp("world")) as world:
        yield world


@given(units=units, cuts=cuts)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_traffic(shared: ProxiedWorld, units: list[tuple[bool, str]], cuts: list[int]) -> None:
    """However it is cut and pipelined, in whatever protocol."""
    text = STARTUP
    for is_simple, statement in units:
        if is_simple:
            text += message(b"Q", statement.encode() + b"\0")
        else:
            one = statement.split(";")[0].encode()
            text += message(b"P", b"\0" + one + b"\0\0\0") + message(b"B", bytes(8))
            text += message(b"E", bytes(5)) + message(b"S")
    pieces = []
    at = 0
    for cut in [*cuts, len(text)]:
        pieces.append(text[at : at + cut])
        at += cut
    server = Server()
    with serving(shared, server) as port:
        sent = exchange(port, [piece for piece in pieces if piece], 1 + len(units))
        answer = asyncio.run(sent)
    assert server.received == text
    assert answer == server.sent
