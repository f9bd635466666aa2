"""One client connection: HTTP/1.1 on a socket of our own.

It is not an ASGI server's, because a fault needs what ASGI does not give (a reset at the right byte, a short
body), and because objects then go from file to socket by sendfile and from socket to object by recv_into,
without a copy of ours in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import time
from typing import Any, Protocol

import httptools

from reattach.api.bucket import CONTROL_PREFIX, LoggedRequest
from reattach.import_bucket.blob import Pieces
from reattach.import_bucket.body import MAX_BODY_BYTES, BadBody, Receiver
from reattach.import_bucket.request import BadTarget, Request, parse_request
from reattach.import_bucket.responses import Response, S3Error, error_response, render_head
from reattach.import_bucket.sender import Ending, Sender

log = logging.getLogger(__name__)

_MAX_HEAD = 64 * 1024
_MAX_AHEAD = 1 << 20
_READ = 256 * 1024
# How much one connection may receive before others get their turn.
_TURN = 4 << 20
_CONTROL = CONTROL_PREFIX.encode()
_RESET = struct.pack("ii", 1, 0)
_FAILED = S3Error(500, "InternalError", "the bucket failed, see its log")


class ClientGone(Exception):
    """The client went away while its request waited."""


class DropConnection(Exception):
    """A fault: the connection is reset in place of an answer."""


class Service(Protocol):
    """What a connection asks of its server."""

    loop: asyncio.AbstractEventLoop
    connections: set[Connection]
    scratch: memoryview

    def begin(self) -> LoggedRequest: ...

    def new_receiver(self, length: int | None, payload_length: int | None, chunked: bool) -> Receiver: ...

    def answer_now(self, request: Request) -> Response | None:
        """The answer if nothing must be waited for. Raises S3Error."""

    async def answer(self, request: Request, connection: Connection) -> Response:
        """Raises S3Error, DropConnection, ClientGone."""

    async def answer_control(self, request: Request, connection: Connection) -> Response: ...

    def stalled(self, connection: Connection, rule: int) -> None:
        """The connection waits for `resume`."""


class _Head:
    """Collects what httptools finds in a request's head."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[str, str] = {}
        self.keep_alive = False
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        self.headers[key] = f"{self.headers[key]},{text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        # Only now: at the end of the message the parser has forgotten it.
        self.keep_alive = self.parser.should_keep_alive()


class _ChunkedBody:
    """A body in chunked transfer coding, which httptools reads."""

    def __init__(self, receiver: Receiver, head: bytes) -> None:
        self.done = False
        self._receiver = receiver
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(head)

    def on_body(self, data: bytes) -> None:
        self._receiver.feed(memoryview(data))

    def on_message_complete(self) -> None:
        self.done = True

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)


class Connection:
    """Reads requests one at a time and answers each before the next."""

    def __init__(self, service: Service, sock: socket.socket) -> None:
        self._service = service
        self._sock = sock
        self._fd = sock.fileno()
        self._ahead = bytearray()  # bytes of requests that are not yet looked at
        self._reading = True
        self._closed = False
        # The request under way.
        self._busy = False
        self._request: Request | None = None
        self._logged: LoggedRequest | None = None
        self._receiver: Receiver | None = None
        self._chunked: _ChunkedBody | None = None
        self._keep_alive = True
        self._task: asyncio.Task[None] | None = None
        self._waiting: asyncio.Future[Any] | None = None
        self._body: Pieces | None = None
        self._sender = Sender(service.loop, sock, self._sent, self._lost)
        service.connections.add(self)
        service.loop.add_reader(self._fd, self._on_readable)

    @property
    def is_busy(self) -> bool:
        return self._busy or self._receiver is not None

    # Reading

    def _on_readable(self) -> None:
        try:
            self._read()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._lost()
        except Exception:
            log.exception("a connection failed")
            self.abort()

    def _read(self) -> None:
        if self._receiver is not None and self._chunked is None:
            self._read_body(self._receiver)
            return
        scratch = self._service.scratch
        size = self._sock.recv_into(scratch, _READ)
        if size == 0:
            self._lost()
            return
        data = bytes(scratch[:size])
        if self._chunked is not None:
            self._feed_chunked(data)
        elif self._busy:
            self._ahead += data
            if len(self._ahead) > _MAX_AHEAD:
                self._stop_reading()
        else:
            self._ahead += data
            self._next_request()

    def _read_body(self, receiver: Receiver) -> None:
        turn = _TURN
        while turn > 0 and receiver.remaining:
            target = receiver.target()
            if target is not None:
                size = self._sock.recv_into(target)
                receiver.placed(size)
            else:
                scratch = self._service.scratch
                size = self._sock.recv_into(scratch, min(receiver.remaining, len(scratch)))
                try:
                    receiver.feed(scratch[:size])
                except BadBody as e:
                    self._refuse(S3Error(400, "InvalidRequest", str(e)))
                    return
            if size == 0:
                self._lost()
                return
            turn -= size
        if not receiver.remaining:
            self._body_arrived(receiver)

    def _next_request(self) -> None:
        """Looks for a request's head in what has been read."""
        end = self._ahead.find(b"\r\n\r\n")
        if end < 0:
            if len(self._ahead) > _MAX_HEAD:
                self._begin_log()
                self._refuse(
                    S3Error(431, "RequestHeaderSectionTooLarge", "Your request headers are too large.")
                )
            return
        raw = bytes(self._ahead[: end + 4])
        del self._ahead[: end + 4]
        head = _Head()
        try:
            head.parser.feed_data(raw)
        except httptools.HttpParserUpgrade:
            pass  # an offer that need not be taken
        except httptools.HttpParserError:
            self._begin_log()
            self._refuse(S3Error(400, "BadRequest", "An error occurred when parsing the HTTP request."))
            return
        self._keep_alive = head.keep_alive
        is_control = head.url.startswith(_CONTROL)
        if is_control:
            self._logged = LoggedRequest(seq=0, time=0.0, started=0.0)
        else:
            self._begin_log()
        assert self._logged is not None
        try:
            self._request = parse_request(
                head.parser.get_method().decode("latin-1"), head.url, head.headers, self._logged
            )
        except BadTarget:
            self._refuse(S3Error(400, "InvalidURI", "Couldn't parse the specified URI."))
            return
        self._expect_body(head.headers, raw)

    def _begin_log(self) -> None:
        self._logged = self._service.begin()

    def _expect_body(self, headers: dict[str, str], raw_head: bytes) -> None:
        coded = "transfer-encoding" in headers
        text = headers.get("content-length", "0")
        if not coded and not text.isdigit():
            self._refuse(S3Error(400, "InvalidRequest", "Content-Length is not a number"))
            return
        length = None if coded else int(text)
        if length == 0:
            self._dispatch()
            return
        if length is not None and length > MAX_BODY_BYTES:
            message = "Your proposed upload exceeds the maximum allowed object size."
            self._refuse(S3Error(400, "EntityTooLarge", message))
            return
        chunked = headers.get("x-amz-content-sha256", "").startswith(
            "STREAMING-"
        ) or "aws-chunked" in headers.get("content-encoding", "")
        payload = headers.get("x-amz-decoded-content-length", "") if chunked else ""
        try:
            self._receiver = self._service.new_receiver(
                length, int(payload) if payload.isdigit() else None, chunked
            )
        except OSError as e:
            self._refuse(S3Error(500, "InternalError", f"cannot spool the body: {e.strerror}"))
            return
        if headers.get("expect", "").lower() == "100-continue" and not self._ahead:
            self._sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if coded:
            self._chunked = _ChunkedBody(self._receiver, raw_head)
        self._take_ahead()

    def _take_ahead(self) -> None:
        """Gives the body the bytes that were read along with the head."""
        receiver = self._receiver
        assert receiver is not None
        if self._chunked is not None:
            if self._ahead:
                data = bytes(self._ahead)
                self._ahead.clear()
                self._feed_chunked(data)
            return
        assert receiver.remaining is not None
        early = bytes(self._ahead[: receiver.remaining])
        del self._ahead[: len(early)]
        if early:
            try:
                receiver.feed(memoryview(early))
            except BadBody as e:
                self._refuse(S3Error(400, "InvalidRequest", str(e)))
                return
        if not receiver.remaining:
            self._body_arrived(receiver)

    def _feed_chunked(self, data: bytes) -> None:
        assert self._chunked is not None and self._receiver is not None
        try:
            self._chunked.feed(data)
        except (httptools.HttpParserError, BadBody) as e:
            self._refuse(S3Error(400, "InvalidRequest", f"cannot read the chunked body: {e}"))
            return
        if self._chunked.done:
            # httptools does not tell where the message ended, so what may follow it is not looked at.
            self._keep_alive = False
            self._body_arrived(self._receiver)

    def _body_arrived(self, receiver: Receiver) -> None:
        assert self._request is not None
        self._receiver = self._chunked = None
        self._request.logged.bytes_in = receiver.received
        try:
            self._request.body, self._request.trailers = receiver.finish()
        except BadBody as e:
            self._refuse(S3Error(400, "IncompleteBody", str(e)))
            return
        self._dispatch()

    # Answering

    def _dispatch(self) -> None:
        request = self._request
        assert request is not None
        self._busy = True
        is_control = request.logged.seq == 0
        try:
            response = None if is_control else self._service.answer_now(request)
        except S3Error as e:
            response = error_response(e, request.method, request.logged.seq)
        except Exception:
            log.exception("%s %s failed", request.method, request.target)
            response = error_response(_FAILED, request.method, request.logged.seq)
        if response is not None:
            self._respond(response)
        else:
            self._task = self._service.loop.create_task(self._answer(request, is_control))

    async def _answer(self, request: Request, is_control: bool) -> None:
        try:
            if is_control:
                response = await self._service.answer_control(request, self)
            else:
                response = await self._service.answer(request, self)
        except S3Error as e:
            response = error_response(e, request.method, request.logged.seq)
        except DropConnection:
            self.abort()
            return
        except ClientGone:
            self._lost()
            return
        except Exception:
            log.exception("%s %s failed", request.method, request.target)
            response = error_response(_FAILED, request.method, request.logged.seq)
        if self._closed:
            response.body.close()
        else:
            self._respond(response)

    async def wait(self, future: asyncio.Future[Any], timeout: float | None = None) -> Any:
        """Waits for `future` as long as the client stays. Raises ClientGone, TimeoutError."""
        if self._closed:
            future.cancel()
            raise ClientGone
        self._waiting = future
        try:
            return await asyncio.wait_for(future, timeout)
        except asyncio.CancelledError:
            if self._closed:
                raise ClientGone from None
            raise
        finally:
            self._waiting = None

    def _refuse(self, error: S3Error) -> None:
        """Answers a request that was not read to its end, and closes."""
        self._receiver = self._chunked = None
        self._busy = True
        self._keep_alive = False
        assert self._logged is not None
        method = self._request.method if self._request is not None else ""
        self._respond(error_response(error, method, self._logged.seq))

    def _respond(self, response: Response) -> None:
        logged = self._logged
        assert logged is not None
        logged.status = response.status
        self._body = response.body
        self._sender.send(render_head(response, logged.seq, self._keep_alive), response, logged)

    def _sent(self, ending: Ending) -> None:
        """Everything that was to go out is out."""
        match ending:
            case "reset":
                self.abort()
                return
            case "stall":
                self._service.stalled(self, self._sender.stalled_by)
                return
            case "close":
                self._close()
                return
        assert self._logged is not None
        self._logged.whole = True
        self._end_request()
        if not self._keep_alive:
            self._close()
        elif self._ahead:
            # Not from here: a client that sends many requests at once must not grow the stack.
            self._service.loop.call_soon(self._continue)
        if not self._reading and not self._closed:
            self._reading = True
            self._service.loop.add_reader(self._fd, self._on_readable)

    def _continue(self) -> None:
        if not self._closed and not self.is_busy:
            try:
                self._next_request()
            except OSError:
                self._lost()

    def resume(self) -> None:
        """Sends what a stall held back."""
        if not self._closed:
            self._sender.resume()

    def _end_request(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
        if self._logged is not None and self._logged.ended is None:
            self._logged.ended = time.monotonic()
        self._logged = None
        self._request = None
        self._task = None
        self._busy = False

    # Ending

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._service.loop.remove_reader(self._fd)

    def abort(self) -> None:
        """Resets the connection."""
        if not self._closed:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._lost()

    def _close(self) -> None:
        """Closes in good order; what was handed to the network still arrives."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        self._lost()

    def _lost(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._stop_reading()
        self._sender.stop()
        self._service.connections.discard(self)
        if self._receiver is not None and self._logged is not None:
            self._logged.bytes_in = self._receiver.received
        self._receiver = self._chunked = None
        if self._waiting is not None:
            self._waiting.cancel()
        self._end_request()
        self._sock.close()
