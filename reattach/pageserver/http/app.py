"""All routes of the JSON API, who may use them, and the headers that every answer has."""

from __future__ import annotations

import time

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from reattach.pageserver.fullbackup import routes as fullbackup
from reattach.pageserver.http import layers, pages, process, secondary, tenants, timelines
from reattach.pageserver.http.api import Api
from reattach.runtime.auth import Scope, TokenAuth
from reattach.runtime.errors import InternalError, ResourceUnavailable
from reattach.runtime.failpoints import failpoints
from reattach.runtime.http import json_app

PUBLIC_PATHS = frozenset(
    {"/v1/status", "/v1/doc", "/swagger.yml", "/metrics", "/profile/cpu", "/profile/heap"}
)


def build_app(api: Api, auth: TokenAuth | None) -> ASGIApp:
    """`auth` None: everybody may do everything."""

    async def check(request: Request) -> None:
        if request.url.path != "/v1/failpoints":
            if await failpoints.hit("api-503") is not None:
                raise ResourceUnavailable("failpoint")
            if await failpoints.hit("api-500") is not None:
                raise InternalError("failpoint")
        if auth is not None and request.url.path not in PUBLIC_PATHS:
            auth.require(request, Scope.PAGE_SERVER_API)

    modules = (process, tenants, timelines, layers, pages, fullbackup, secondary)
    routes = [route for module in modules for route in module.routes(api)]
    return _with_launch_time(json_app(routes, check))


def _with_launch_time(app: Starlette) -> ASGIApp:
    """Tells clients by a header when this process started, so that they notice a restart."""
    launched_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    async def wrapped(scope: AsgiScope, receive: Receive, send: Send) -> None:
        async def with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["PAGESERVER_LAUNCH_TIMESTAMP"] = launched_at
            await send(message)

        await app(scope, receive, with_header)

    return wrapped
