"""The HTTP server ends when it is told, after what is under way, and not later than it may."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

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


async def _ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        return await reader.read()
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
