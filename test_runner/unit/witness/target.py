"""A database behind a proxy."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psycopg
from psycopg.conninfo import conninfo_to_dict

from test_runner.unit.witness.proxied import SECONDS


@dataclass
class Target:
    """A database with a table `t (a int primary key)`, directly and through the proxy."""

    dsn: str
    proxied: str

    @property
    def port(self) -> int:
        return int(str(conninfo_to_dict(self.dsn)["port"]))

    def others(self) -> int:
        """Sessions but this one."""
        with psycopg.connect(self.dsn) as connection:
            found = connection.execute(
                "select count(*) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            ).fetchone()
            assert found is not None
            return int(found[0])

    def rows(self) -> list[int]:
        with psycopg.connect(self.dsn) as connection:
            return [int(a) for (a,) in connection.execute("select a from t order by a")]


def message(kind: bytes, body: bytes = b"") -> bytes:
    """A message of PostgreSQL's protocol."""
    return kind + struct.pack("!I", len(body) + 4) + body


class RawSession:
    """A session of which a test decides every byte. key: for its cancel request."""

    def __init__(self, dsn: str) -> None:
        options = conninfo_to_dict(dsn)
        self.address = (str(options["host"]), int(str(options["port"])))
        self.socket = socket.create_connection(self.address, SECONDS)
        start = f"user\0{options['user']}\0database\0{options['dbname']}\0\0".encode()
        self.socket.sendall(struct.pack("!II", len(start) + 8, 196608) + start)
        answer = b"".join(self.until_ready())
        self.key = answer.partition(b"K\0\0\0\x0c")[2][:8]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, *messages: bytes) -> None:
        self.socket.sendall(b"".join(messages))

    def until_ready(self) -> list[bytes]:
        """The server's messages, with the ReadyForQuery."""
        found: list[bytes] = []
        while not found or found[-1][:1] != b"Z":
            head = self._exactly(5)
            found.append(head + self._exactly(struct.unpack("!I", head[1:])[0] - 4))
        return found

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            piece = self.socket.recv(size - len(found))
            if not piece:
                raise ConnectionError("the server has closed")
            found += piece
        return found
