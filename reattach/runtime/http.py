"""JSON over HTTP: typed bodies in, typed values out, errors as `{"msg": ...}`."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from reattach.api import codec
from reattach.runtime.errors import (
    ApiError,
    BadRequest,
    InternalError,
    PageNotFound,
    PayloadTooLarge,
    cause_chain,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

Handler = Callable[[Request], Awaitable[object]]
"""Answers a value that `codec.encode` takes (status 200), or a Response."""

Check = Callable[[Request], Awaitable[None]]
"""Runs before every handler; refuses the request by raising an ApiError."""

MAX_BODY_BYTES = 4 * 1024 * 1024


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
        return codec.decode(raw, type_)
    except (codec.DecodeError, UnicodeDecodeError) as e:
        raise BadRequest(f"Failed to parse json request: {e}") from e


def path_param(request: Request, name: str, parse: Callable[[str], T]) -> T:
    """A part of the path. Raises BadRequest."""
    try:
        return parse(request.path_params[name])
    except ValueError as e:
        raise BadRequest(f"failed to parse {name}") from e


def query_param(request: Request, name: str, parse: Callable[[str], T]) -> T | None:
    """A query parameter, None if absent. Raises BadRequest."""
    values = set(request.query_params.getlist(name))
    if not values:
        return None
    if len(values) > 1:
        raise BadRequest(f"param {name} specified more than once")
    try:
        return parse(values.pop())
    except ValueError as e:
        raise BadRequest(f"cannot parse query param {name}") from e


def parse_bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"not true or false: {text!r}")
    return text == "true"


def _error_response(error: ApiError) -> Response:
    if error.status in (401, 403):
        log.warning("Error processing HTTP request: %s", error.log_text)
    elif error.status == 500:
        log.error("Error processing HTTP request: %s", cause_chain(error))
    else:
        log.info("Error processing HTTP request: %s", error.log_text)
    text = cause_chain(error) if error.status == 500 else error.msg
    return json_response({"msg": text}, error.status)


def _endpoint(handler: Handler, check: Check | None) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        quiet = request.method in ("GET", "HEAD")
        if not quiet:
            log.info("Handling request %s %s", request.method, request.url.path)
        try:
            if check is not None:
                await check(request)
            value = await handler(request)
            response = value if isinstance(value, Response) else json_response(value)
        except ApiError as e:
            response = _error_response(e)
        except ClientDisconnect:
            log.info("request was dropped before its body arrived")
            response = Response(status_code=400)
        except Exception as e:
            log.exception("HTTP request handler task panicked: %s %s", request.method, request.url.path)
            response = _error_response(InternalError(f"HTTP request handler task panicked: {cause_chain(e)}"))
        if not quiet:
            log.info("Request handled, status: %d", response.status_code)
        return _with_id(request, response)

    return endpoint


def _with_id(request: Request, response: Response) -> Response:
    response.headers["x-request-id"] = request.headers.get("x-request-id") or str(uuid.uuid4())
    return response


async def _not_found(request: Request, _: Exception) -> Response:
    return _with_id(request, _error_response(PageNotFound("page not found")))


def json_app(routes: Sequence[tuple[str, str, Handler]], check: Check | None = None) -> Starlette:
    """An application of `(method, path, handler)` routes; earlier routes win. Any other request is a 404."""
    return Starlette(
        routes=[Route(path, _endpoint(handler, check), methods=[method]) for method, path, handler in routes],
        exception_handlers={404: _not_found, 405: _not_found},
    )
