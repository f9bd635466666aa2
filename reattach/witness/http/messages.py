"""HTTP/1 messages as they pass: parsed to know where they end, and written with the headers that they had.

Only a request to change the protocol loses the headers that say so, as nothing could be seen behind it: the
peer answers as one that does not know the other protocol.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO

import httptools

from reattach.witness.http.bodies import BodyRecord

Headers = list[tuple[bytes, bytes]]

IN_MEMORY = 1 << 20
"""Bytes of a request's body that are not in a file."""

_PIECE = 1 << 18
_UPGRADE = frozenset({b"upgrade", b"http2-settings"})


class NotHttp(Exception):
    """What was sent is no HTTP/1. The text says why."""


@dataclass(slots=True)
class Head:
    """A first line and its headers, in order, and whether the body comes in chunks."""

    first_line: bytes
    headers: Headers

    def get(self, name: bytes) -> bytes | None:
        """The first header of this name, which is in lower case."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def is_chunked(self) -> bool:
        coding = self.get(b"transfer-encoding")
        return coding is not None and coding.lower().endswith(b"chunked")

    def render(self) -> bytes:
        lines = [self.first_line, *(name + b": " + value for name, value in self.headers)]
        return b"\r\n".join(lines) + b"\r\n\r\n"


def chunk(piece: bytes) -> bytes:
    """A piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def last_chunk(trailers: Headers) -> bytes:
    """The end of a chunked body."""
    return b"0\r\n" + b"".join(name + b": " + value + b"\r\n" for name, value in trailers) + b"\r\n"


@dataclass(slots=True)
class Request:
    """A whole request; its body is read once. keep_alive: whether the client will send another."""

    method: str
    target: str
    head: Head
    keep_alive: bool
    record: BodyRecord
    trailers: Headers = field(default_factory=list)
    body: IO[bytes] = field(default_factory=lambda: _spool())

    def pieces(self) -> Iterator[bytes]:
        """All of it, as it goes to the peer."""
        yield self.head.render()
        self.body.seek(0)
        is_chunked = self.head.is_chunked
        while piece := self.body.read(_PIECE):
            yield chunk(piece) if is_chunked else piece
        if is_chunked:
            yield last_chunk(self.trailers)

    def close(self) -> None:
        self.body.close()


def _spool() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)


class RequestReader:
    """Turns a client's bytes into requests. `expects`: called when it waits for `100 Continue`."""

    def __init__(self, complete: Callable[[Request], None], expects: Callable[[], None]) -> None:
        self._complete = complete
        self._expects = expects
        self._request: Request | None = None
        self._new_parser()

    def _new_parser(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: Headers = []
        self._upgrading: Head | None = None

    def feed(self, data: bytes) -> None:
        """Raises NotHttp."""
        while data:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as e:
                # The parser leaves the rest to the other protocol, so it must not know of it.
                rest, head = data[e.args[0] :], self._upgrading
                if head is None:
                    raise NotHttp("CONNECT is for another kind of proxy") from e
                self._new_parser()
                data = head.render() + rest
            except httptools.HttpParserError as e:
                raise NotHttp(str(e)) from e

    def close(self) -> None:
        """Forgets a request of which not all has come."""
        if self._request is not None:
            self._request.close()
            self._request = None

    # httptools

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._request is None:
            self._headers.append((name, value))
        else:
            self._request.trailers.append((name, value))

    def on_headers_complete(self) -> None:
        method = self._parser.get_method()
        version = self._parser.get_http_version().encode()
        head = Head(method + b" " + self._target + b" HTTP/" + version, self._headers)
        if self._parser.should_upgrade():
            if method != b"CONNECT":
                self._upgrading = Head(head.first_line, _without_upgrade(head.headers))
            return
        target = self._target.decode("latin-1")
        record = BodyRecord(head.get(b"content-type"))
        self._request = Request(method.decode(), target, head, self._parser.should_keep_alive(), record)
        if version == b"1.1" and (head.get(b"expect") or b"").lower() == b"100-continue":
            self._expects()

    def on_body(self, piece: bytes) -> None:
        assert self._request is not None
        self._request.body.write(piece)
        self._request.record.add(piece)

    def on_message_complete(self) -> None:
        if self._request is None:
            return  # it is read again without its wish for another protocol
        request, self._request = self._request, None
        self._complete(request)


def _without_upgrade(headers: Headers) -> Headers:
    kept: Headers = []
    for name, value in headers:
        if name.lower() in _UPGRADE:
            continue
        if name.lower() == b"connection":
            options = [option.strip() for option in value.split(b",")]
            value = b", ".join(option for option in options if option.lower() not in _UPGRADE)
            if not value:
                continue
        kept.append((name, value))
    return kept


class AnswerReader:
    """Turns a peer's bytes into the one answer to a request.

    `on_head` has the head, `on_piece` a piece of the body as it goes to the client and the same without
    its framing, `on_end` the last bytes.
    """

    def __init__(
        self,
        method: str,
        on_head: Callable[[int, Head, bool], None],
        on_piece: Callable[[bytes, bytes], None],
        on_end: Callable[[bytes], None],
    ) -> None:
        self._method = method
        self._on_head = on_head
        self._on_piece = on_piece
        self._on_end = on_end
        self._parser = httptools.HttpResponseParser(self)
        self._reason = b""
        self._headers: Headers = []
        self._trailers: Headers = []
        self._head: Head | None = None
        self.is_complete = False
        self._is_more = False
        self._is_until_close = False

    def feed(self, data: bytes) -> None:
        """Raises NotHttp, also for what follows an answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as e:
            raise NotHttp("the peer changes the protocol") from e
        except httptools.HttpParserError as e:
            raise NotHttp(str(e)) from e
        if self._is_more:
            raise NotHttp("the peer sends more than an answer")

    def end_of_stream(self) -> None:
        """The peer has closed, which ends an answer that says no length."""
        if self._is_until_close and not self.is_complete:
            self._complete(b"")

    def _complete(self, last: bytes) -> None:
        self.is_complete = True
        self._on_end(last)

    # httptools

    def on_message_begin(self) -> None:
        self._is_more = self.is_complete
        self._reason, self._headers, self._trailers, self._head = b"", [], [], None

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        (self._headers if self._head is None else self._trailers).append((name, value))

    def on_headers_complete(self) -> None:
        if self.is_complete:
            return
        status = self._parser.get_status_code()
        version = self._parser.get_http_version().encode()
        head = self._head = Head(b"HTTP/%b %d %b" % (version, status, self._reason), self._headers)
        if status < 200:
            return
        has_body = self._method != "HEAD" and status not in (204, 304)
        self._is_until_close = has_body and not head.is_chunked and head.get(b"content-length") is None
        self._on_head(status, head, has_body)
        if not has_body:
            # The parser would wait for the body of an answer to HEAD.
            self._complete(b"")

    def on_body(self, piece: bytes) -> None:
        if not self.is_complete:
            assert self._head is not None
            self._on_piece(chunk(piece) if self._head.is_chunked else piece, piece)

    def on_message_complete(self) -> None:
        if not self.is_complete and self._parser.get_status_code() >= 200:
            assert self._head is not None
            self._complete(last_chunk(self._trailers) if self._head.is_chunked else b"")
