"""Calling another process over HTTP/1.1: one request, one connection, one deadline."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httptools

MAX_RESPONSE_BYTES = 256 * 1024 * 1024


class TransportError(Exception):
    """No usable response came: refused, reset, cut short, not HTTP, or too late. The text names the URL."""


class _BadResponse(Exception):
    """What came is no whole response."""


@dataclass(slots=True)
class HttpResponse:
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


@dataclass(slots=True)
class _Collector:
    """What httptools calls back while it parses a response."""

    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    complete: bool = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, chunk: bytes) -> None:
        self.chunks.append(chunk)
        self.size += len(chunk)

    def on_message_complete(self) -> None:
        self.complete = True


def _head(method: str, target: str, host: str, headers: dict[str, str], length: int) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _exchange(
    method: str, url: str, body: bytes, headers: dict[str, str], tls: ssl.SSLContext | None
) -> HttpResponse:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    context = (tls or ssl.create_default_context()) if secure else None
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        writer.write(_head(method, target, parts.netloc.rpartition("@")[2], headers, len(body)) + body)
        await writer.drain()
        collector = _Collector()
        parser = httptools.HttpResponseParser(collector)
        while not collector.complete and (data := await reader.read(256 * 1024)):
            parser.feed_data(data)
            if collector.size > MAX_RESPONSE_BYTES:
                raise _BadResponse(f"response is larger than {MAX_RESPONSE_BYTES} bytes")
        framed = "content-length" in collector.headers or "transfer-encoding" in collector.headers
        if not collector.complete and (framed or not collector.headers):
            raise _BadResponse("connection closed before message completed")
        return HttpResponse(parser.get_status_code(), collector.headers, b"".join(collector.chunks))
    finally:
        writer.transport.abort()


async def request(
    method: str,
    url: str,
    *,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    timeout: float,
    tls: ssl.SSLContext | None = None,
) -> HttpResponse:
    """Sends `body` (also with GET) and returns the response, whatever its status.

    timeout: seconds for everything, from connecting to the last byte of the response.
    tls: for https URLs; the system's default trust if None.
    Raises TransportError.
    """
    if not urlsplit(url).hostname:
        raise TransportError(f"not a URL that can be called: {url!r}")
    try:
        async with asyncio.timeout(timeout):
            return await _exchange(method, url, body, headers or {}, tls)
    except TimeoutError as e:
        raise TransportError(f"error sending request for url ({url}): no answer in {timeout} s") from e
    except (OSError, ValueError, httptools.HttpParserError, _BadResponse) as e:
        raise TransportError(f"error sending request for url ({url}): {e}") from e


async def request_json(
    method: str,
    url: str,
    *,
    body: bytes = b"",
    token: str | None = None,
    timeout: float,
    tls: ssl.SSLContext | None = None,
) -> HttpResponse:
    """`request` with a JSON body and, if given, a bearer token."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return await request(method, url, body=body, headers=headers, timeout=timeout, tls=tls)
