"""One client of the libpq port: handshake, then one command after another."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from itertools import islice

from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.lsn import Lsn
from reattach.pageserver.access import check_permission
from reattach.pageserver.fullbackup.source import BackupError
from reattach.pageserver.fullbackup.stream import Backup
from reattach.pageserver.page_service import messages
from reattach.pageserver.page_service.command import BadCommand, Set, parse_command
from reattach.pageserver.page_service.messages import ProtocolViolation
from reattach.runtime.auth import Claims
from reattach.runtime.errors import ApiError, Forbidden, cause_chain

log = logging.getLogger(__name__)

OpenBackup = Callable[[TenantShardId, TimelineId, Lsn | None], Awaitable[Backup]]
"""Finds a timeline and reads what its backup consists of. Raises ApiError and BackupError."""

CheckPassword = Callable[[str], Claims]
"""What the token says that a client gives as its password. Raises ApiError."""

HANDSHAKE_SECONDS = 10.0
"""From the connection to the end of the log-in."""

MESSAGE_SECONDS = 60.0
"""From the first byte of a message to its last."""

IDLE_SECONDS = 600.0
"""Between two messages."""

SEND_SECONDS = 60.0
"""For which a client may take nothing of what is sent to it."""

_RECV_BYTES = 64 * 1024
_IOV_MAX = 512

_SYNTAX_ERROR = "42601"
_FEATURE_NOT_SUPPORTED = "0A000"
_PROTOCOL_VIOLATION = "08P01"
_INVALID_PASSWORD = "28P01"
_INSUFFICIENT_PRIVILEGE = "42501"
_INTERNAL_ERROR = "XX000"

_PARAMETERS = {
    "server_version": "16.0",
    "server_encoding": "UTF8",
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "TimeZone": "UTC",
    "integer_datetimes": "on",
    "standard_conforming_strings": "on",
}

_EXTENDED_QUERY = (b"P", b"B", b"D", b"E", b"C", b"H", b"F")
_COPY_IN = (b"d", b"c", b"f")


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Disconnected(Exception):
    """The client has gone."""


class Connection:
    """Serves one client on a connected, non-blocking socket."""

    def __init__(
        self, sock: socket.socket, open_backup: OpenBackup, check_password: CheckPassword | None
    ) -> None:
        self._sock = sock
        self._open_backup = open_backup
        self._check_password = check_password
        self._claims: Claims | None = None
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()

    async def run(self) -> None:
        """Serves until the client leaves or breaks the protocol. Raises nothing but CancelledError."""
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                is_ready = await self._handshake()
            while is_ready:
                is_ready = await self._next_command()
        except ProtocolViolation as e:
            log.info("libpq client broke the protocol: %s", e)
            await self._say_farewell(str(e), _PROTOCOL_VIOLATION)
        except TimeoutError:
            log.info("libpq client did not finish its handshake in %g s", HANDSHAKE_SECONDS)
        except _Disconnected as e:
            log.info("libpq client disconnected: %s", e)

    async def _handshake(self) -> bool:
        """False if the client only wanted to cancel something, or has no good password."""
        while True:
            length = messages.startup_length(await self._read(4))
            startup = messages.parse_startup(await self._read(length))
            if startup.code == messages.CANCEL_REQUEST:
                return False
            if startup.code not in (messages.SSL_REQUEST, messages.GSSENC_REQUEST):
                break
            await self._send(messages.REFUSE_ENCRYPTION)
        if startup.minor or startup.protocol_options:
            await self._send(messages.negotiate_version(startup.protocol_options))
        if self._check_password is not None and not await self._authenticated(self._check_password):
            return False
        parameters = [messages.parameter_status(name, value) for name, value in _PARAMETERS.items()]
        await self._send(
            messages.AUTHENTICATION_OK,
            *parameters,
            messages.BACKEND_KEY_DATA,
            messages.READY_FOR_QUERY,
        )
        return True

    async def _authenticated(self, check_password: CheckPassword) -> bool:
        await self._send(messages.AUTHENTICATION_PASSWORD)
        kind, body = await self._read_message()
        if kind != b"p":
            raise ProtocolViolation(f"expected a password, not a message of type {kind!r}")
        try:
            self._claims = check_password(messages.parse_text(body))
        except ApiError as e:
            await self._say_farewell(e.msg, _INVALID_PASSWORD)
            return False
        return True

    async def _next_command(self) -> bool:
        kind, body = await self._read_message()
        if kind == b"X":
            return False
        if kind == b"Q":
            await self._query(messages.parse_text(body))
        elif kind == b"S":
            await self._send(messages.READY_FOR_QUERY)
        elif kind in _EXTENDED_QUERY:
            await self._refuse_extended_query(kind)
        elif kind not in _COPY_IN:
            raise ProtocolViolation(f"invalid frontend message type {kind!r}")
        return True

    async def _refuse_extended_query(self, kind: bytes) -> None:
        text = "only simple queries are supported, without parameters"
        await self._send(messages.error_response(text, _FEATURE_NOT_SUPPORTED))
        while kind != b"S":
            kind, _ = await self._read_message()
            if kind == b"X":
                raise _Disconnected("it said so")
        await self._send(messages.READY_FOR_QUERY)

    async def _query(self, query: str) -> None:
        try:
            command = parse_command(query)
            if command is None:
                answer = messages.EMPTY_QUERY_RESPONSE
            elif isinstance(command, Set):
                answer = messages.command_complete("SET")
            else:
                log.info("Handling command %s", query.strip())
                check_permission(self._claims, command.tenant_shard_id.tenant_id)
                backup = await self._open_backup(command.tenant_shard_id, command.timeline_id, command.lsn)
                await self._copy_out(backup)
                answer = messages.COPY_DONE + messages.command_complete("COPY")
        except BadCommand as e:
            answer = messages.error_response(str(e), _SYNTAX_ERROR)
        except (BackupError, ApiError) as e:
            is_clients_fault = isinstance(e, ApiError) and e.status < 500
            level = logging.INFO if is_clients_fault else logging.ERROR
            log.log(level, "command failed: %s: %s", query.strip(), cause_chain(e))
            code = _INSUFFICIENT_PRIVILEGE if isinstance(e, Forbidden) else _INTERNAL_ERROR
            answer = messages.error_response(cause_chain(e), code)
        except _Disconnected:
            raise
        except Exception as e:
            log.exception("command panicked: %s", query.strip())
            answer = messages.error_response(cause_chain(e), _INTERNAL_ERROR)
        await self._send(answer, messages.READY_FOR_QUERY)

    async def _copy_out(self, backup: Backup) -> None:
        await self._send(messages.COPY_OUT_RESPONSE)
        async with aclosing(backup.stream()) as buffers:
            async for buffer in buffers:
                await self._send(*messages.copy_data(buffer))

    async def _say_farewell(self, text: str, code: str) -> None:
        try:
            await self._send(messages.error_response(text, code, severity="FATAL"))
        except _Disconnected as e:
            log.info("libpq client did not wait for the reason: %s", e)

    async def _send(self, *parts: bytes | memoryview) -> None:
        waiting = deque(memoryview(part) for part in parts)
        try:
            while waiting:
                try:
                    sent = self._sock.sendmsg(list(islice(waiting, _IOV_MAX)))
                except BlockingIOError:
                    await self._writable()
                    continue
                while waiting and sent >= len(waiting[0]):
                    sent -= len(waiting.popleft())
                if sent:
                    waiting[0] = waiting[0][sent:]
        except OSError as e:
            raise _Disconnected(str(e)) from e

    async def _writable(self) -> None:
        writable = self._loop.create_future()
        self._loop.add_writer(self._sock.fileno(), _resolve, writable)
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await writable
        except TimeoutError:
            raise _Disconnected(f"it took nothing for {SEND_SECONDS:g} s") from None
        finally:
            self._loop.remove_writer(self._sock.fileno())

    async def _read_message(self) -> tuple[bytes, bytes]:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                await self._receive(1)
        except TimeoutError:
            raise _Disconnected(f"it said nothing for {IDLE_SECONDS:g} s") from None
        try:
            async with asyncio.timeout(MESSAGE_SECONDS):
                kind, length = messages.parse_header(await self._read(5))
                return kind, await self._read(length)
        except TimeoutError:
            raise _Disconnected(f"a message was not complete after {MESSAGE_SECONDS:g} s") from None

    async def _read(self, size: int) -> bytes:
        await self._receive(size)
        result = bytes(self._received[:size])
        del self._received[:size]
        return result

    async def _receive(self, size: int) -> None:
        """Returns when so many bytes are there."""
        while len(self._received) < size:
            try:
                part = await self._loop.sock_recv(self._sock, _RECV_BYTES)
            except OSError as e:
                raise _Disconnected(str(e)) from e
            if not part:
                raise _Disconnected("end of stream")
            self._received += part
