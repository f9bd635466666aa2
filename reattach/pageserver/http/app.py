"""All routes of the JSON API, who may use them, and the headers that every answer has."""

from __future__ import annotations

import time

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from reattach.api.controller import TenantConfigRequest
from reattach.pageserver.access import check_permission
from reattach.pageserver.fullbackup import routes as fullbackup
from reattach.pageserver.http import layers, pages, process, secondary, tenants, timelines
from reattach.pageserver.http.api import TENANT, TIMELINE, Api, Endpoint, shard_id
from reattach.runtime.auth import Claims, TokenAuth
from reattach.runtime.errors import InternalError, ResourceUnavailable
from reattach.runtime.failpoints import failpoints
from reattach.runtime.http import Handler, Route, json_app, read_json
from reattach.runtime.openapi import described

PUBLIC_PATHS = frozenset({"/v1/status", "/metrics"})
"""Nobody needs a token for these."""

_NOT_FOR_TENANTS = frozenset(TIMELINE + name for name in ("/getpage", "/touchpage", "/values"))
"""A tenant's own token is good for what lies below its path, except for single pages."""

ENDPOINTS = [
    endpoint
    for module in (process, tenants, timelines, layers, pages, fullbackup, secondary)
    for endpoint in module.ENDPOINTS
]


def build_app(api: Api, auth: TokenAuth | None) -> ASGIApp:
    """`auth` None: everybody may do everything."""
    routes = [bind(endpoint, api, auth) for endpoint in ENDPOINTS]
    return _with_launch_time(json_app(described("pageserver", routes, "/swagger.yml")))


def bind(endpoint: Endpoint, api: Api, auth: TokenAuth | None) -> Route:
    """The route of a process: who may not use it is refused before anything else is done."""
    body_type = endpoint.body
    is_public = endpoint.path in PUBLIC_PATHS
    is_tenants = endpoint.path.startswith(TENANT) and endpoint.path not in _NOT_FOR_TENANTS
    # The body says which tenant it is about.
    says_tenant = body_type is TenantConfigRequest
    access = "everybody" if is_public else "pageserverapi"

    async def handle(request: Request) -> object:
        await _fail_if_told(endpoint)
        claims: Claims | None = None
        if auth is not None and not is_public:
            claims = auth.claims_of(request)
            if not says_tenant:
                check_permission(claims, shard_id(request).tenant_id if is_tenants else None)
        if body_type is None:
            return await endpoint.answer(api, request)
        body = await read_json(request, body_type)
        if says_tenant:
            check_permission(claims, body.tenant_id)
        return await endpoint.answer(api, request, body)

    handler: Handler = handle
    if is_tenants or says_tenant:
        access += ", or the tenant's own"
    return Route(endpoint.method, endpoint.path, handler, body_type, endpoint.query, access)


async def _fail_if_told(endpoint: Endpoint) -> None:
    if endpoint.path != "/v1/failpoints":
        if await failpoints.hit("api-503") is not None:
            raise ResourceUnavailable("failpoint")
        if await failpoints.hit("api-500") is not None:
            raise InternalError("failpoint")


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
