"""JSON over HTTP: typed bodies in, typed values out, errors as `{"msg": ...}`."""

from __future__ import annotations

import asyncio
import logging
import typing
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from reattach.api import codec
from reattach.runtime import json_limits
from reattach.runtime.errors import (
    ApiError,
    BadRequest,
    Cancelled,
    InternalError,
    PageNotFound,
    PayloadTooLarge,
    ShuttingDown,
    cause_chain,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

Handler = Callable[[Request], Awaitable[object]]
"""Answers a value that `codec.encode` takes (status 200), or a Response."""

MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_MILLISECONDS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Query(Generic[T]):
    """A query parameter that routes name. schema: what it is, in JSON Schema's words."""

    name: str
    parse: Callable[[str], T]
    schema: Mapping[str, object]

    def of(self, request: Request) -> T | None:
        """Its value, None if absent. Raises BadRequest."""
        route: Route = request.scope["reattach.route"]
        if self not in route.query:
            raise LookupError(f"{route.method} {route.path} does not name its query parameter {self.name}")
        values = set(request.query_params.getlist(self.name))
        if not values:
            return None
        if len(values) > 1:
            raise BadRequest(f"param {self.name} specified more than once")
        try:
            return self.parse(values.pop())
        except ValueError as e:
            raise BadRequest(f"cannot parse query param {self.name}") from e


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path; `{name}` stands for a part of the path.

    body: the type of its JSON body, None if it takes none. access: who may use it, in words.
    """

    method: str
    path: str
    handler: Handler
    body: Any = None
    query: tuple[Query[Any], ...] = ()
    access: str = "everybody"


def body_type(handler: Callable[..., object]) -> Any:
    """The type of a handler's parameter `body`, None if it has no such parameter."""
    return typing.get_type_hints(handler).get("body")


def json_response(value: object, status: int = 200) -> Response:
    return Response(codec.encode(value), status, media_type="application/json")


async def read_body(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """The request's body. Raises PayloadTooLarge as soon as it passes `limit` bytes."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise PayloadTooLarge(f"request body is larger than {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


async def read_json(request: Request, type_: type[T]) -> T:
    """The request's body as `type_`. Raises BadRequest."""
    raw = await read_body(request)
    if not raw:
        raise BadRequest("missing request body")
    try:
        json_limits.check(raw)
        return codec.decode(raw, type_)
    except ValueError as e:
        raise BadRequest(f"Failed to parse json request: {e}") from e


def path_param(request: Request, name: str, parse: Callable[[str], T]) -> T:
    """A part of the path. Raises BadRequest."""
    try:
        return parse(request.path_params[name])
    except ValueError as e:
        raise BadRequest(f"failed to parse {name}") from e


def parse_bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"not true or false: {text!r}")
    return text == "true"


def parse_whole(text: str) -> int:
    """A whole number from 0 to 2^64-1, in decimal digits and nothing else. Raises ValueError."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 20 or int(text) >= 2**64:
        raise ValueError(f"not a whole number: {text[:40]!r}")
    return int(text)


def parse_milliseconds(text: str) -> float:
    """Seconds, a day at most. Raises ValueError."""
    return min(parse_whole(text), MAX_MILLISECONDS) / 1000


BOOLEAN = {"type": "boolean"}
WHOLE = {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}


def requested_path(request: Request) -> str:
    """The path as it was sent, percent-encoded, so that it is one line in a log.

    Never `request.url`: that is made of the Host header, so a client says what it is.
    """
    raw = request.scope.get("raw_path")
    return raw.decode("ascii", "backslashreplace") if raw else quote(request.scope["path"])


def query_string(request: Request) -> str:
    """The query as it was sent, without its question mark."""
    raw: bytes = request.scope["query_string"]
    return raw.decode("ascii", "backslashreplace")


def _error_response(error: ApiError) -> Response:
    if error.status in (401, 403):
        log.warning("Error processing HTTP request: %s", error.log_text)
    elif error.status == 500:
        log.error("Error processing HTTP request: %s", cause_chain(error))
    else:
        log.info("Error processing HTTP request: %s", error.log_text)
    text = cause_chain(error) if error.status == 500 else error.msg
    return json_response({"msg": text}, error.status)


def _endpoint(route: Route) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        request.scope["reattach.route"] = route
        quiet = request.method in ("GET", "HEAD")
        what = f"{request.method} {requested_path(request)}"
        if not quiet:
            log.info("Handling request %s", what)
        try:
            value = await route.handler(request)
            response = value if isinstance(value, Response) else json_response(value)
        except ApiError as e:
            response = _error_response(e)
        except asyncio.CancelledError:
            response = _error_response(_ended_by_shutdown())
        except ClientDisconnect:
            log.info("request was dropped before its body arrived")
            response = Response(status_code=400)
        except Exception as e:
            log.exception("HTTP request handler task panicked: %s", what)
            response = _error_response(InternalError(f"HTTP request handler task panicked: {cause_chain(e)}"))
        if not quiet:
            log.info("Request handled, status: %d", response.status_code)
        return _with_id(request, response)

    return endpoint


def _ended_by_shutdown() -> ApiError:
    """The answer of a request that was cancelled: only the server does that, when it ends."""
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        return Cancelled()
    task.uncancel()
    return ShuttingDown()


def _with_id(request: Request, response: Response) -> Response:
    response.headers["x-request-id"] = request.headers.get("x-request-id") or str(uuid.uuid4())
    return response


async def _not_found(request: Request, _: Exception) -> Response:
    return _with_id(request, _error_response(PageNotFound("page not found")))


def json_app(routes: Sequence[Route]) -> Starlette:
    """An application of these routes; earlier ones win. Any other request is a 404."""
    app = Starlette(
        routes=[StarletteRoute(r.path, _endpoint(r), methods=[r.method]) for r in routes],
        exception_handlers={404: _not_found, 405: _not_found},
    )
    # It would send whoever asks for `/x/` to `/x` of the host that the Host header names.
    app.router.redirect_slashes = False
    return app
