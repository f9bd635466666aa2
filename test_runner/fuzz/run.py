"""Sends requests to a server over many connections and counts what comes back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import httptools

from test_runner.fuzz.requests import Request

HANG_SECONDS = 60.0
"""The longest wait that a service promises is half of it."""

Judge = Callable[[int, bytes], str | None]


@dataclass(slots=True)
class Tally:
    """statuses: how many answers of each. wrong: what none may be, with its request; the first hundred."""

    statuses: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    """The connection was closed instead, or what came was no HTTP."""
    hung: int = 0
    wrong_count: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def sent(self) -> int:
        return sum(self.statuses.values()) + self.unanswered + self.hung

    def blame(self, reason: str, request: Request, status: int, body: bytes) -> None:
        self.wrong_count += 1
        if len(self.wrong) < 100:
            self.wrong.append(f"{reason}: {request.what}: {status} {body[:300]!r}")


class _Answer:
    """What httptools calls back. `100 Continue` is no answer yet."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.body = bytearray()
        self.complete = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = self.parser.get_status_code() != 100


async def fuzz(
    port: int, supply: Callable[[], Request], count: int, judge: Judge, *, connections: int = 16
) -> Tally:
    """Sends `count` requests. Raises OSError if nobody listens any more."""
    tally = Tally()
    left = iter(range(count))

    async def client() -> None:
        reader: asyncio.StreamReader | None = None
        writer: asyncio.StreamWriter | None = None
        for _ in left:
            if writer is None or reader is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            request = supply()
            try:
                async with asyncio.timeout(HANG_SECONDS):
                    found = await _ask(reader, writer, request)
            except TimeoutError:
                tally.hung += 1
                tally.blame("no answer in time", request, 0, b"")
                found = None
            else:
                if found is None:
                    tally.unanswered += 1
                else:
                    status, body, _ = found
                    tally.statuses[status] += 1
                    if (reason := judge(status, body)) is not None:
                        tally.blame(reason, request, status, body)
            if found is None or not found[2]:
                writer.close()
                writer = None
        if writer is not None:
            writer.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return tally


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request
) -> tuple[int, bytes, bool] | None:
    """Status, body, and whether the connection goes on; None if it was closed before an answer."""
    answer = _Answer()
    is_head = request.raw.startswith(b"HEAD ")
    try:
        writer.write(request.raw)
        await writer.drain()
        while not answer.complete:
            data = await reader.read(1 << 16)
            if not data:
                return None
            answer.parser.feed_data(data)
            if is_head and b"\r\n\r\n" in data:
                # It has the header fields of a body, and none.
                return answer.parser.get_status_code(), b"", False
    except (ConnectionError, httptools.HttpParserError):
        return None
    return answer.parser.get_status_code(), bytes(answer.body), answer.parser.should_keep_alive()
