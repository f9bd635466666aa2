"""What a client may make a server hold, and how long it may make it wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from reattach.runtime.http import Route, json_app, read_body
from reattach.runtime.http_protocol import Limits
from reattach.runtime.serve import HttpServer, bind

LIMITS = Limits(head_bytes=4096, head=0.3, body=0.3, stall=0.3)
GET = b"GET /quick HTTP/1.1\r\nHost: x\r\n"
SECONDS = 10

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Served:
    """An application whose handlers say how they ended."""

    def __init__(self) -> None:
        self.patience = 0.0
        self.bodies: list[int] = []
        self.ended = asyncio.Event()
        self.port = 0

    def app(self) -> Any:
        async def quick(_: Any) -> object:
            return "quick"

        async def body(request: Any) -> object:
            await asyncio.sleep(self.patience)
            try:
                self.bodies.append(len(await read_body(request)))
            finally:
                self.ended.set()
            return "taken"

        application = json_app([Route("GET", "/quick", quick), Route("POST", "/body", body)])

        async def with_stream(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] != "/stream":
                await application(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": []})
            try:
                for _ in range(1000):
                    await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
            finally:
                self.ended.set()
            await send({"type": "http.response.body", "body": b""})

        return with_stream

    async def connect(self) -> Client:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, *parts: bytes, pause: float = 0.0) -> bytes:
        """All that comes until the connection is closed."""
        reader, writer = await self.connect()
        sending = asyncio.create_task(_send(writer, parts, pause))
        answer = b""
        with suppress(ConnectionError):
            while part := await reader.read(1 << 16):
                answer += part
        sending.cancel()
        writer.close()
        return answer


async def _send(writer: asyncio.StreamWriter, parts: tuple[bytes, ...], pause: float) -> None:
    with suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)


def serving(scenario: Callable[[Served], Awaitable[None]], limits: Limits = LIMITS) -> None:
    async def main() -> None:
        served, sock = Served(), bind("127.0.0.1:0")
        served.port = sock.getsockname()[1]
        server = HttpServer(served.app(), sock, limits=limits)
        running = asyncio.create_task(server.serve())
        while not server.is_serving:
            await asyncio.sleep(0.001)
        try:
            await asyncio.wait_for(scenario(served), SECONDS)
        finally:
            server.stop()
            await asyncio.wait_for(running, SECONDS)

    asyncio.run(main())


@pytest.mark.parametrize(
    "head",
    [
        [GET + b"x: " + b"y" * 5000 + b"\r\n\r\n"],
        [GET + b"x: y\r\n" * 1000 + b"\r\n"],
        [b"GET /" + b"q" * 5000 + b" HTTP/1.1\r\n\r\n"],
        [GET, *[b"x: yyyyyyyyyyyyyyyy\r\n"] * 400],
        [GET + b"x: ", *[b"y" * 1000] * 2000],
        [b"G" * 5000],
        [GET + b"\r\n" + GET + b"x: " + b"y" * 5000 + b"\r\n\r\n"],
    ],
    ids=[
        "one header",
        "many headers",
        "path",
        "in pieces",
        "without end",
        "no request",
        "the second request",
    ],
)
def test_a_head_that_is_too_large(head: list[bytes]) -> None:
    """Refused before it is whole; a garbled one is 400 as ever."""

    async def scenario(served: Served) -> None:
        answer = await served.ask(*head)
        expected = b"HTTP/1.1 400" if head[0].startswith(b"GGG") else b"HTTP/1.1 431"
        assert expected in answer
        assert (await served.ask(GET + b"Connection: close\r\n\r\n")).startswith(b"HTTP/1.1 200")

    serving(scenario)


def test_a_head_that_is_just_not_too_large() -> None:
    async def scenario(served: Served) -> None:
        head = GET + b"Connection: close\r\nx: " + b"y" * 3900 + b"\r\n\r\n"
        assert (await served.ask(*(head[i : i + 100] for i in range(0, len(head), 100)))).startswith(
            b"HTTP/1.1 200"
        )

    serving(scenario)


@pytest.mark.parametrize(
    ("parts", "answer"),
    [
        ([], b""),
        ([GET], b"HTTP/1.1 408"),
        ([bytes([byte]) for byte in GET * 3], b"HTTP/1.1 408"),
    ],
    ids=["silence", "half a head", "a byte at a time"],
)
def test_a_head_that_does_not_come(parts: list[bytes], answer: bytes) -> None:
    async def scenario(served: Served) -> None:
        assert (await served.ask(*parts, pause=0.02))[: len(answer)] == answer

    serving(scenario)


def test_a_second_head_that_does_not_come() -> None:
    async def scenario(served: Served) -> None:
        answer = await served.ask(GET + b"\r\n", GET, pause=0.01)
        assert answer.count(b"HTTP/1.1 200") == 1 and b"HTTP/1.1 408" in answer

    serving(scenario)


@pytest.mark.parametrize("framing", [b"Content-Length: 500\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_body_that_does_not_come(framing: bytes) -> None:
    """Also one that comes a byte at a time. The handler learns of it and ends."""

    async def scenario(served: Served) -> None:
        head = b"POST /body HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n"
        piece = b"1\r\nx\r\n" if b"chunked" in framing else b"x"
        answer = await served.ask(head, *[piece] * 100, pause=0.02)
        await served.ended.wait()
        assert answer == b"" and served.bodies == []

    serving(scenario)


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
def test_a_body_that_we_do_not_take_yet(expect: bytes) -> None:
    """The client is not to blame for what the server makes it wait."""

    async def scenario(served: Served) -> None:
        served.patience = 0.8
        size = 1_000_000
        head = b"POST /body HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n" % size
        if not expect:
            answer = await served.ask(head + b"\r\n" + bytes(size))
        else:
            reader, writer = await served.connect()
            writer.write(head + expect + b"\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
            writer.write(bytes(size))
            answer = await reader.read()
            writer.close()
        assert b"HTTP/1.1 200" in answer and served.bodies == [size]

    serving(scenario)


def test_an_answer_that_is_not_read() -> None:
    async def scenario(served: Served) -> None:
        _, writer = await served.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        await served.ended.wait()
        writer.close()

    serving(scenario)


def test_trailers_without_end() -> None:
    async def scenario(served: Served) -> None:
        head = b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
        answer = await served.ask(head + b"a: b\r\n" * 2000)
        assert b"HTTP/1.1 200" not in answer

    serving(scenario)


def test_keep_alive_and_pipelined_requests() -> None:
    """Longer than any one of them may take."""

    async def scenario(served: Served) -> None:
        reader, writer = await served.connect()
        for _ in range(5):
            writer.write((GET + b"\r\n") * 20)
            for _ in range(20):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                await reader.readexactly(len(b'"quick"'))
            await asyncio.sleep(0.1)
        writer.close()

    serving(scenario)
