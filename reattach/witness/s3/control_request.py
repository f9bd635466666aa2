"""What all control requests have in common: their bodies, numbers and errors."""

from __future__ import annotations

import asyncio
from typing import Protocol, TypeVar

from reattach.api import codec
from reattach.witness.s3.request import Request

T = TypeVar("T")

MAX_BODY = 1 << 20
LONGEST_POLL = 60.0


class ControlError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Waits(Protocol):
    """The connection that a control request came on."""

    async def wait(self, future: asyncio.Future[T], timeout: float | None = None) -> T: ...


def body(request: Request, type_: type[T]) -> T:
    size = request.body.size if request.body is not None else 0
    if size > MAX_BODY:
        raise ControlError(413, f"the body is larger than {MAX_BODY} bytes")
    raw = request.body.open(0, size).read() if request.body is not None else b""
    try:
        return codec.decode(raw or b"{}", type_)
    except (codec.DecodeError, UnicodeDecodeError) as e:
        raise ControlError(400, f"not a {type_.__name__}: {e}") from e


def number(query: dict[str, str], name: str, default: float) -> float:
    try:
        value = float(query.get(name, default))
    except ValueError as e:
        raise ControlError(400, f"{name} is not a number") from e
    if not 0 <= value < 1 << 53:
        raise ControlError(400, f"{name} is out of range")
    return value
