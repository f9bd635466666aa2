"""Requests as they come in on a connection, each with its body straight to where it will lie."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

import httptools

from reattach.api.bucket import CONTROL_PREFIX, LoggedRequest
from reattach.witness.s3.body import MAX_BODY_BYTES, BadBody, Receiver
from reattach.witness.s3.http_parsing import ChunkedBody, Head
from reattach.witness.s3.patience import Phase
from reattach.witness.s3.request import BadTarget, Request, parse_request
from reattach.witness.s3.responses import S3Error

_MAX_HEAD = 64 * 1024
_MAX_AHEAD = 1 << 20
_READ = 256 * 1024
# How much one connection may receive before others get their turn.
_TURN = 4 << 20
_CONTROL = CONTROL_PREFIX.encode()


class Intake(Protocol):
    """What reading asks of its server. `scratch`: a buffer for what is looked at before the next read."""

    scratch: memoryview

    def begin(self) -> LoggedRequest: ...

    def new_receiver(self, length: int | None, payload_length: int | None, chunked: bool) -> Receiver: ...


class RequestReader:
    """Hands over one request at a time, whole, and then waits for `release`.

    on_request gets it; on_refused gets why one that is still under way cannot be taken, after which nothing
    more can be read. `logged` is the request's entry in the log, `keep_alive` whether another may follow it.
    """

    def __init__(
        self,
        intake: Intake,
        sock: socket.socket,
        on_request: Callable[[Request], None],
        on_refused: Callable[[S3Error], None],
    ) -> None:
        self._intake = intake
        self._sock = sock
        self._on_request = on_request
        self._on_refused = on_refused
        self._ahead = bytearray()  # bytes of requests that are not yet looked at
        self._handed_over = False
        self._receiver: Receiver | None = None
        self._chunked: ChunkedBody | None = None
        self.request: Request | None = None
        self.logged: LoggedRequest | None = None
        self.keep_alive = True

    @property
    def is_busy(self) -> bool:
        """Whether a request's body is on its way, or the request is with whoever answers it."""
        return self._handed_over or self._receiver is not None

    @property
    def phase(self) -> Phase:
        """What it waits for."""
        if self._handed_over:
            return "answer"
        if self._receiver is not None:
            return "body"
        return "head" if self._ahead else "idle"

    def expire(self) -> None:
        """Refuses a request that is not here whole, as too much time has passed."""
        if self.logged is None:
            self._begin_log()
        message = (
            "Your socket connection to the server was not read from or written to within the timeout period."
        )
        self._refuse(S3Error(400, "RequestTimeout", message))

    @property
    def has_more(self) -> bool:
        """Whether something of the next request was read already."""
        return bool(self._ahead)

    @property
    def is_full(self) -> bool:
        """Whether so much was read ahead of the request under way that the client has to wait."""
        return self._handed_over and len(self._ahead) > _MAX_AHEAD

    def release(self) -> None:
        """The request is answered; the next may come."""
        self._handed_over = False
        self.request = self.logged = None

    def stop(self) -> None:
        """The client is gone, and a body that was on its way with it."""
        if self._receiver is not None and self.logged is not None:
            self.logged.bytes_in = self._receiver.received
        self._receiver = self._chunked = None

    def read(self) -> None:
        """Takes what the socket has. Raises BlockingIOError if that is nothing, OSError if it is over."""
        if self._receiver is not None and self._chunked is None:
            self._read_body(self._receiver)
            return
        scratch = self._intake.scratch
        size = self._sock.recv_into(scratch, _READ)
        if size == 0:
            raise _closed()
        data = bytes(scratch[:size])
        if self._chunked is not None:
            self._feed_chunked(data)
        else:
            self._ahead += data
            if not self._handed_over:
                self.next_request()

    def _read_body(self, receiver: Receiver) -> None:
        turn = _TURN
        while turn > 0 and receiver.remaining:
            target = receiver.target()
            if target is not None:
                size = self._sock.recv_into(target)
                receiver.placed(size)
            else:
                scratch = self._intake.scratch
                size = self._sock.recv_into(scratch, min(receiver.remaining, len(scratch)))
                try:
                    receiver.feed(scratch[:size])
                except BadBody as e:
                    self._refuse(S3Error(400, "InvalidRequest", str(e)))
                    return
            if size == 0:
                raise _closed()
            turn -= size
        if not receiver.remaining:
            self._body_arrived(receiver)

    def next_request(self) -> None:
        """Looks for a request's head in what has been read. Raises OSError."""
        end = self._ahead.find(b"\r\n\r\n")
        if (end if end >= 0 else len(self._ahead)) > _MAX_HEAD:
            self._begin_log()
            message = "Your request headers are too large."
            self._refuse(S3Error(431, "RequestHeaderSectionTooLarge", message))
            return
        if end < 0:
            return
        raw = bytes(self._ahead[: end + 4])
        del self._ahead[: end + 4]
        head = Head()
        try:
            head.parser.feed_data(raw)
        except httptools.HttpParserUpgrade:
            pass  # an offer that need not be taken
        except httptools.HttpParserError:
            self._begin_log()
            self._refuse(S3Error(400, "BadRequest", "An error occurred when parsing the HTTP request."))
            return
        self.keep_alive = head.keep_alive
        is_control = head.url.startswith(_CONTROL)
        if is_control:
            self.logged = LoggedRequest(seq=0, time=0.0, started=0.0)
        else:
            self._begin_log()
        assert self.logged is not None
        try:
            self.request = parse_request(
                head.parser.get_method().decode("latin-1"), head.url, head.headers, self.logged
            )
        except BadTarget:
            self._refuse(S3Error(400, "InvalidURI", "Couldn't parse the specified URI."))
            return
        self._expect_body(head.headers, raw)

    def _begin_log(self) -> None:
        self.logged = self._intake.begin()

    def _expect_body(self, headers: dict[str, str], raw_head: bytes) -> None:
        coded = "transfer-encoding" in headers
        text = headers.get("content-length", "0")
        if not coded and not text.isdigit():
            self._refuse(S3Error(400, "InvalidRequest", "Content-Length is not a number"))
            return
        length = None if coded else int(text)
        if headers.get("expect", "").lower() == "100-continue" and not self._ahead:
            # Also if there is no body to wait for: some clients take the next answer for this one otherwise.
            self._sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if length == 0:
            self._hand_over()
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
            self._receiver = self._intake.new_receiver(
                length, int(payload) if payload.isdigit() else None, chunked
            )
        except OSError as e:
            self._refuse(S3Error(500, "InternalError", f"cannot spool the body: {e.strerror}"))
            return
        if coded:
            self._chunked = ChunkedBody(self._receiver, raw_head)
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
            self.keep_alive = False
            self._body_arrived(self._receiver)

    def _body_arrived(self, receiver: Receiver) -> None:
        assert self.request is not None
        self._receiver = self._chunked = None
        self.request.logged.bytes_in = receiver.received
        try:
            self.request.body, self.request.trailers = receiver.finish()
        except BadBody as e:
            self._refuse(S3Error(400, "IncompleteBody", str(e)))
            return
        self._hand_over()

    def _hand_over(self) -> None:
        assert self.request is not None
        self._handed_over = True
        self._on_request(self.request)

    def _refuse(self, error: S3Error) -> None:
        self._receiver = self._chunked = None
        self._handed_over = True
        self.keep_alive = False
        self._on_refused(error)


def _closed() -> ConnectionAbortedError:
    return ConnectionAbortedError("the client has closed the connection")
