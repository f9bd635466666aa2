"""A client's connection through a PostgreSQL proxy: two sides, and a gate between them.

Encryption is refused as a server without it does. A cancel request goes to the server on a connection of its
own, as it came.
"""

from __future__ import annotations

import asyncio
import logging

from reattach.api.effects import Front
from reattach.witness.postgres.framing import (
    CANCEL_REQUEST,
    GSSENC_REQUEST,
    SSL_REQUEST,
    NotPostgres,
    startup_packet,
)
from reattach.witness.postgres.gate import COPY_DATA, Gate
from reattach.witness.postgres.stream import BULK, Stream
from reattach.witness.wire import HIGH_WATER, ProxyListener, Side

log = logging.getLogger(__name__)

_ROWS = b"Dd"


class PostgresConnection:
    """One. It also is the gate's `Wires`."""

    def __init__(self, listener: ProxyListener) -> None:
        self._listener = listener
        self.client = Side(self._from_client, self._client_ended)
        self._server = Side(self._from_server, self._server_ended)
        self.client.feeds_from(self._server)
        self._server.feeds_from(self.client)
        self._link = listener.joined(self, Front.POSTGRES)
        wanted = listener.wanted
        self._gate = Gate(listener.world, self._link, wanted.peer, wanted.copy_chunks, self)
        self._requests = Stream(b"" if wanted.copy_chunks else bytes([COPY_DATA]))
        self._answers = Stream(_ROWS)
        self._startup: bytes | None = b""
        self._is_opaque = False
        self._is_connected = False
        self._is_over = False
        self._is_pumping = False
        self._withheld: list[bytes] | None = None
        self._withheld_size = 0
        self._task = listener.loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await self._listener.reach_upstream(self._server)
        except (OSError, asyncio.CancelledError):
            self.reset()
            return
        if self._is_over:
            self._server.reset()
            return
        self._is_connected = True
        self._from_client(b"")
        if self.client.is_over:
            self._client_ended(self.client.was_reset)

    def abort(self) -> None:
        self.client.reset()
        self._gate.client_left()
        if not self._gate.is_performing:
            self.reset()

    def end(self) -> None:
        self._gate.end()
        self._task.cancel()
        self.reset()

    # The client

    def _from_client(self, data: bytes) -> None:
        if self._startup is not None:
            data = self._start(self._startup + data)
        self._requests.feed(data)
        self.pump()
        if self._requests.size > HIGH_WATER and self._gate.is_closed:
            self.client.stop("gate")

    def _start(self, data: bytes) -> bytes:
        """Takes the packets that come before a session. Returns what belongs to the session."""
        self._startup = data
        if not self._is_connected:
            return b""
        try:
            while (packet := startup_packet(self._startup)) is not None:
                length, code = packet
                whole, self._startup = self._startup[:length], self._startup[length:]
                if code in (SSL_REQUEST, GSSENC_REQUEST):
                    self.client.write(b"N")
                    continue
                rest, self._startup = self._startup, None
                self._is_opaque = code == CANCEL_REQUEST
                self._server.write(whole)
                return rest
        except NotPostgres as e:
            self._fail(e)
        return b""

    def pump(self) -> None:
        """Sends on what the client has sent, as far as the gate lets it."""
        if self._is_pumping or self._startup is not None or self._is_over:
            return
        self._is_pumping = True
        try:
            self._pump()
        except NotPostgres as e:
            self._fail(e)
        finally:
            self._is_pumping = False

    def _pump(self) -> None:
        requests, gate = self._requests, self._gate
        if self._is_opaque:
            self._server.write(requests.take_all())
        while not gate.is_closed and not self._is_over and (found := requests.peek()) is not None:
            kind, message = found
            if kind == BULK:
                self._server.write(message)
            elif not gate.offer(kind, message):
                return
            requests.take()
        if gate.is_closed:
            return
        self.client.resume("gate")
        if self._server.is_over:
            self._end(self._server.was_reset)
        elif self.client.is_over:
            self._server.finish()

    def _client_ended(self, was_reset: bool) -> None:
        self._gate.client_left()
        if self._startup is None:
            self.pump()
        elif self._is_connected:
            self._end(was_reset)
        # Else what it has sent before it left may be a cancel request.

    # The server

    def _from_server(self, data: bytes) -> None:
        if self._is_opaque:
            self.client.write(data)
            return
        answers, gate = self._answers, self._gate
        answers.feed(data)
        try:
            while not self._is_over and (found := answers.peek()) is not None:
                kind, message = found
                answers.take()
                if kind == BULK:
                    self.to_client(message)
                else:
                    gate.seen(message[:1], message)
        except NotPostgres as e:
            self._fail(e)
        self.pump()

    def _server_ended(self, was_reset: bool) -> None:
        if not self._gate.server_left():
            self._end(was_reset)

    # Wires

    def to_server(self, data: bytes) -> None:
        self._server.write(data)

    def to_client(self, data: bytes) -> None:
        if self._withheld is None:
            self.client.write(data)
            return
        self._withheld.append(data)
        self._withheld_size += len(data)
        if self._withheld_size > HIGH_WATER:
            # Rows before a commit's answer, more than can be kept.
            self.release()
            self.withhold()

    def withhold(self) -> None:
        if self._withheld is None:
            self._withheld, self._withheld_size = [], 0

    def release(self) -> None:
        if self._withheld is not None:
            kept, self._withheld = self._withheld, None
            for data in kept:
                self.client.write(data)

    def is_client_gone(self) -> bool:
        return self.client.is_gone

    def reset(self) -> None:
        self._end(True)

    def _fail(self, error: NotPostgres) -> None:
        log.warning("%s > %s: not PostgreSQL: %s", self._link.actor, self._listener.wanted.peer, error)
        self._gate.end()
        self.reset()

    def _end(self, by_reset: bool) -> None:
        if self._is_over:
            return
        self._is_over = True
        for side in (self.client, self._server):
            if by_reset:
                side.reset()
            else:
                side.close()
        self._listener.left(self, self._link)
