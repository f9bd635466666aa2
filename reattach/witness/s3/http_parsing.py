"""What httptools makes of a request's head, and of a body in chunked transfer coding."""

from __future__ import annotations

import httptools

from reattach.witness.s3.body import Receiver


class Head:
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


class ChunkedBody:
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
