"""One client connection: HTTP/1.1 on a socket of our own, each request answered before the next is taken.

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
from typing import Any, Protocol, TypeVar

from reattach.witness.s3.blob import Pieces
from reattach.witness.s3.patience import Phase
from reattach.witness.s3.reader import Intake, RequestReader
from reattach.witness.s3.request import Request
from reattach.witness.s3.responses import Response, S3Error, error_response, render_head
from reattach.witness.s3.sender import Ending, Sender
from reattach.witness.sockets import has_end
from reattach.witness.world import Link

log = logging.getLogger(__name__)

T = TypeVar("T")

_UNREAD_BUFFERS = 8
_RESET = struct.pack("ii", 1, 0)
_FAILED = S3Error(500, "InternalError", "the bucket failed, see its log")


class ClientGone(Exception):
    """The client went away while its request waited."""


class DropConnection(Exception):
    """A fault: the connection is reset in place of an answer."""


class Service(Intake, Protocol):
    """What a connection asks of its server."""

    loop: asyncio.AbstractEventLoop
    connections: set[Connection]

    def answer_now(self, request: Request, connection: Connection) -> Response | None:
        """The answer if nothing must be waited for. Raises S3Error."""

    async def answer(self, request: Request, connection: Connection) -> Response:
        """Raises S3Error, DropConnection, ClientGone."""

    async def answer_control(self, request: Request, connection: Connection) -> Response: ...

    def stalled(self, connection: Connection, rule: int) -> None:
        """The connection waits for `resume`."""

    def lost(self, connection: Connection) -> None:
        """The connection is gone."""


class Connection:
    """Reads requests one at a time and answers each before the next."""

    def __init__(self, service: Service, sock: socket.socket) -> None:
        self._service = service
        self._sock = sock
        self._fd = sock.fileno()
        self._reading = True
        self._closed = False
        self._reader = RequestReader(service, sock, self._dispatch, self._refuse)
        # The request under way.
        self._task: asyncio.Task[None] | None = None
        self._waiting: asyncio.Future[Any] | None = None
        self._body: Pieces | None = None
        self._sender = Sender(service.loop, sock, self._sent, self._lost)
        self.link: Link | None = None
        self.phase: Phase = "idle"
        self.since = service.loop.time()
        service.connections.add(self)
        service.loop.add_reader(self._fd, self._on_readable)

    @property
    def is_busy(self) -> bool:
        return self._reader.is_busy

    # Reading

    def expire(self) -> None:
        """Nothing has come for too long; see `patience`."""
        if self.phase == "idle":
            self._close()
        else:
            self._reader.expire()

    def _on_readable(self) -> None:
        try:
            self._reader.read()
            if self._reader.is_full:
                self._stop_reading()
        except (BlockingIOError, InterruptedError):
            pass  # it has taken what there was
        except OSError:
            self._lost()
        except Exception:
            log.exception("a connection failed")
            self.abort()
        self._note_phase()

    def _note_phase(self) -> None:
        phase = self._reader.phase
        # A body may take long if it goes on coming, a head may not.
        if phase != self.phase or phase == "body":
            self.phase, self.since = phase, self._service.loop.time()

    def _continue(self) -> None:
        if not self._closed and not self._reader.is_busy:
            try:
                self._reader.next_request()
            except OSError:
                self._lost()

    # Answering

    def _dispatch(self, request: Request) -> None:
        is_control = request.logged.seq == 0
        try:
            response = None if is_control else self._service.answer_now(request, self)
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
        if not self._closed:
            self._respond(response)
            return
        response.body.close()
        if request.witnessed is not None:
            # It was carried out by a thread while the client went.
            request.witnessed.end(whole=False)

    async def wait(self, future: asyncio.Future[T], timeout: float | None = None) -> T:
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
        request, logged = self._reader.request, self._reader.logged
        assert logged is not None
        self._respond(error_response(error, "" if request is None else request.method, logged.seq))

    def _respond(self, response: Response) -> None:
        logged = self._reader.logged
        assert logged is not None
        logged.status = response.status
        self._body = response.body
        request = self._reader.request
        if request is not None and request.witnessed is not None and has_end(self._sock):
            # The network would take the answer. It is nobody's: the sender has gone, perhaps died.
            self._lost()
            return
        self._sender.send(render_head(response, logged.seq, self._reader.keep_alive), response, logged)

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
        logged = self._reader.logged
        assert logged is not None
        logged.whole = True
        self._end_request()
        if not self._reader.keep_alive:
            self._close()
        elif self._reader.has_more:
            # Not from here: a client that sends many requests at once must not grow the stack.
            self._service.loop.call_soon(self._continue)
        if not self._reading and not self._closed:
            self._reading = True
            self._service.loop.add_reader(self._fd, self._on_readable)

    def resume(self) -> None:
        """Sends what a stall held back."""
        if not self._closed:
            self._sender.resume()

    def _end_request(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
        logged = self._reader.logged
        if logged is not None and logged.ended is None:
            logged.ended = time.monotonic()
        request = self._reader.request
        if request is not None and request.witnessed is not None and logged is not None:
            request.witnessed.end(logged.whole)
        self._reader.release()
        self._task = None
        self._note_phase()

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
            # What is left unread would reset the connection, and the answer might be lost with it.
            for _ in range(_UNREAD_BUFFERS):
                if not self._sock.recv_into(self._service.scratch):
                    break
        self._lost()

    def _lost(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._stop_reading()
        self._sender.stop()
        self._service.connections.discard(self)
        self._reader.stop()
        if self._waiting is not None:
            self._waiting.cancel()
        self._end_request()
        self._service.lost(self)
        self._sock.close()
