"""Timelines, and imports as people see them."""

from __future__ import annotations

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from reattach.api import codec
from reattach.api.controller import TimelineCreation
from reattach.api.controller_points import Point
from reattach.api.ids import TenantId, TenantShardId
from reattach.runtime.auth import Scope
from reattach.runtime.errors import Conflict
from reattach.runtime.failpoints import failpoints
from reattach.runtime.http import json_response, query_string
from reattach.storage_controller.controller import Controller
from reattach.storage_controller.routes.guard import RouteSpec, tenant_id, timeline_id


async def create(controller: Controller, request: Request, body: TimelineCreation) -> object:
    tenant, parsed = tenant_id(request), body.request
    async with controller.locks.shared(tenant, "TimelineCreate"):
        await failpoints.sleep_for_returned_ms(Point.TIMELINE_CREATE_LOCKED)
        if parsed.import_request is None:
            return json_response(await controller.timelines.create(tenant, body.as_it_came), 201)
        controller.timelines.check_attached(tenant)
    # Not under the lock: what moves meanwhile is noticed by its generation.
    info = await controller.imports.create(
        tenant, parsed, body.as_it_came, lambda found: _check(tenant, found)
    )
    return json_response({**codec.to_builtins(info), "safekeepers": None}, 201)


def _check(tenant: TenantId, found: list[TenantShardId]) -> None:
    counts = {shard.shard_count for shard in found}
    if len(counts) != 1 or len(found) != max(1, *counts):
        raise Conflict(f"Inconsistent shard count: {tenant}")


async def delete(controller: Controller, request: Request) -> object:
    tenant, timeline = tenant_id(request), timeline_id(request)
    async with controller.locks.shared(tenant, "TimelineDelete"):
        # Nothing is forgotten of a timeline that cannot be deleted now.
        controller.timelines.check_attached(tenant)
        async with controller.imports.deleting(tenant, timeline):
            await controller.imports.forget(tenant, timeline)
            gone = await controller.timelines.delete(tenant, timeline)
    return None if gone else json_response(None, 409)


async def describe(controller: Controller, request: Request) -> object:
    return await controller.timelines.describe(tenant_id(request), timeline_id(request))


async def describe_import(controller: Controller, request: Request) -> object:
    return await controller.imports.describe(tenant_id(request), timeline_id(request))


async def list_imports_of_tenant(controller: Controller, request: Request) -> object:
    return await controller.imports.describe_all(tenant_id(request))


async def list_imports(controller: Controller, _: Request) -> object:
    return await controller.imports.describe_all(None)


async def forward(controller: Controller, request: Request) -> object:
    """Shard zero's pageserver answers for the tenant."""
    rest = request.path_params.get("rest")
    # Encoded anew: what was decoded for us must not become another path or header of ours.
    path = f"/{quote(rest)}" if rest else ""
    query = query_string(request)
    status, body = await controller.timelines.forward_get(
        tenant_id(request), path + (f"?{query}" if query else "")
    )
    return Response(body, status, media_type="application/json")


ROUTES = [
    RouteSpec("POST", "/v1/tenant/{tenant_id}/timeline", Scope.PAGE_SERVER_API, create, waits=True),
    RouteSpec(
        "DELETE", "/v1/tenant/{tenant_id}/timeline/{timeline_id}", Scope.PAGE_SERVER_API, delete, waits=True
    ),
    RouteSpec("GET", "/control/v1/import", Scope.ADMIN, list_imports),
    RouteSpec("GET", "/control/v1/tenant/{tenant_id}/import", Scope.ADMIN, list_imports_of_tenant),
    RouteSpec(
        "GET", "/control/v1/tenant/{tenant_id}/timeline/{timeline_id}/import", Scope.ADMIN, describe_import
    ),
    RouteSpec(
        "GET", "/control/v1/tenant/{tenant_id}/timeline/{timeline_id}", Scope.SCRUBBER, describe, waits=True
    ),
    # Last: it takes every other GET.
    RouteSpec("GET", "/v1/tenant/{tenant_id}", Scope.PAGE_SERVER_API, forward, waits=True),
    RouteSpec("GET", "/v1/tenant/{tenant_id}/{rest:path}", Scope.PAGE_SERVER_API, forward, waits=True),
]
