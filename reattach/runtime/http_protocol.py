"""HTTP/1.1 with bounds: how large a request's head may be, and how long anything may be waited for."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """head_bytes: of the request line and all headers. The rest in seconds.

    head: from the first moment of a connection, or the first byte of a request, to the end of its headers.
    body: from there to its last byte, while we are ready to take it. stall: how long a client may leave an
    answer unread.
    """

    head_bytes: int = 64 * 1024
    head: float = 20.0
    body: float = 60.0
    stall: float = 300.0


class _HeadTooLarge(Exception):
    pass


class BoundedProtocol(HttpToolsProtocol):
    """One connection. What is beyond the limits is 431 or 408 where an answer can still be understood."""

    limits: ClassVar[Limits] = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._reading: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._head_bytes = self._unfinished = 0
        self._in_head = True
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_reading_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        # A header that has not ended yet is only in the parser: what came while it did not is counted here.
        self._unfinished += len(data)
        super().data_received(data)
        if not self._in_head:
            self._unfinished = 0
        elif self._unfinished > self.limits.head_bytes and not self.transport.is_closing():
            self._refuse_head()

    # Parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = self._unfinished = 0
        self._in_head = True
        if self._reading is None:
            self._wait_for_head()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()
        self._wait_for_body()

    def on_message_complete(self) -> None:
        self._stop_reading_timer()
        super().on_message_complete()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.limits.head_bytes:
            raise _HeadTooLarge

    def send_400_response(self, msg: str) -> None:
        if self._head_bytes > self.limits.head_bytes:
            self._refuse_head()
        else:
            super().send_400_response(msg)

    # Flow control

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(self.limits.stall, self._on_stall)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    # Timers

    def _wait_for_head(self) -> None:
        self._reading = self.loop.call_later(self.limits.head, self._on_late_head)

    def _wait_for_body(self) -> None:
        self._stop_reading_timer()
        self._reading = self.loop.call_later(self.limits.body, self._on_late_body)

    def _stop_reading_timer(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _on_late_head(self) -> None:
        self._reading = None
        if self.transport.is_closing():
            return
        log.info("closing a connection: no whole request head within %g s", self.limits.head)
        if self._head_bytes or self._unfinished:
            self._answer(b"408 Request Timeout")
        self.transport.close()

    def _on_late_body(self) -> None:
        if self.flow.read_paused or self.cycle.waiting_for_100_continue:
            # It is us who make the client wait.
            self._wait_for_body()
            return
        self._reading = None
        log.info("closing a connection: no whole request body within %g s", self.limits.body)
        self.transport.abort()

    def _on_stall(self) -> None:
        self._stalled = None
        log.info(
            "closing a connection: the client has read nothing of its answer for %g s", self.limits.stall
        )
        self.transport.abort()

    def _refuse_head(self) -> None:
        log.info("refusing a request: its head is larger than %d bytes", self.limits.head_bytes)
        self._answer(b"431 Request Header Fields Too Large")
        self.transport.close()

    def _answer(self, status: bytes) -> None:
        body = b'{"msg":"%s"}' % status[4:]
        self.transport.write(
            b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n%s" % (status, len(body), body)
        )
