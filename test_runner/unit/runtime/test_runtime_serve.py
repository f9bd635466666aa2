"""The HTTP server ends when it is told, after what is under way, and not later than it may."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

from reattach.runtime.http import Route, json_app, read_body
from reattach.runtime.serve import HttpServer, bind

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Application:
    """Answers as soon as `answer` is set."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    async def __call__(self, scope: object, receive: object, send: Send) -> None:
        self.asked.set()
        await self.answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


async def _ask(port: int, request: bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") -> bytes:
    """What comes until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = b""
    try:
        while part := await reader.read(1 << 16):
            answer += part
        return answer
    except ConnectionResetError:
        return answer
    finally:
        writer.close()


def _port(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def test_stop_lets_an_open_request_end_and_takes_no_new_one() -> None:
    async def scenario() -> None:
        application, sock = Application(), bind("127.0.0.1:0")
        port = _port(sock)
        server = HttpServer(application, sock)
        serving = asyncio.create_task(server.serve())
        asking = asyncio.create_task(_ask(port))
        await asyncio.wait_for(application.asked.wait(), 5)
        server.stop()
        with pytest.raises(ConnectionError):
            while True:
                await _ask_nothing(port)
        assert not serving.done()
        application.answer.set()
        assert (await asyncio.wait_for(asking, 5)).endswith(b"ok")
        await asyncio.wait_for(serving, 5)

    asyncio.run(asyncio.wait_for(scenario(), 20))


async def _ask_nothing(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


def test_stop_closes_idle_connections() -> None:
    async def scenario() -> None:
        application, sock = Application(), bind("127.0.0.1:0")
        application.answer.set()
        port = _port(sock)
        server = HttpServer(application, sock)
        serving = asyncio.create_task(server.serve())
        asking = asyncio.create_task(_ask(port))
        await asyncio.wait_for(application.asked.wait(), 5)
        server.stop()
        assert (await asyncio.wait_for(asking, 5)).endswith(b"ok")
        await asyncio.wait_for(serving, 5)

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_requests_that_take_too_long_are_told_why(caplog: pytest.LogCaptureFixture) -> None:
    """A request that waits for something else is 503, an answer under way is cut off. Neither is an error."""
    caplog.set_level(logging.INFO)
    streaming = asyncio.Event()

    async def wait(_: object) -> object:
        return await asyncio.Event().wait()

    async def inner(_: object) -> object:
        return await asyncio.gather(asyncio.Event().wait(), asyncio.Event().wait())

    async def stream(_: object) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"part"
            streaming.set()
            await asyncio.Event().wait()

        return StreamingResponse(parts(), headers={"content-length": "100"})

    async def body(request: Request) -> object:
        return len(await read_body(request))

    async def scenario() -> None:
        sock = bind("127.0.0.1:0")
        port = _port(sock)
        app = json_app(
            [
                Route("GET", "/wait", wait),
                Route("GET", "/inner", inner),
                Route("GET", "/stream", stream),
                Route("POST", "/body", body),
            ]
        )
        server = HttpServer(app, sock, shutdown_seconds=0)
        serving = asyncio.create_task(server.serve())
        heads = [f"GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for name in ("wait", "inner", "stream")]
        heads.append(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
        asking = [asyncio.create_task(_ask(port, head)) for head in heads]
        await streaming.wait()
        server.stop()
        answers = await asyncio.gather(*asking)
        await serving
        for answer in (answers[0], answers[1], answers[3]):
            assert answer.startswith(b"HTTP/1.1 503") and answer.endswith(b'{"msg":"Shutting down"}')
        assert answers[2].startswith(b"HTTP/1.1 200") and answers[2].endswith(b"part")

    asyncio.run(asyncio.wait_for(scenario(), 20))
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []


def test_stop_waits_no_longer_than_it_may() -> None:
    async def scenario() -> None:
        application, sock = Application(), bind("127.0.0.1:0")
        port = _port(sock)
        server = HttpServer(application, sock, shutdown_seconds=1)
        serving = asyncio.create_task(server.serve())
        asking = asyncio.create_task(_ask(port))
        await asyncio.wait_for(application.asked.wait(), 5)
        began = time.monotonic()
        server.stop()
        await asyncio.wait_for(serving, 10)
        assert time.monotonic() - began >= 1
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(asyncio.wait_for(scenario(), 20))
