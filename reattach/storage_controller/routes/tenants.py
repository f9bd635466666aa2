"""Tenants and their shards."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from reattach.api import codec
from reattach.api.controller import (
    TENANT_CONFIG_KEYS,
    TenantCreateRequest,
    TenantPolicyRequest,
    TenantShardMigrateRequest,
)
from reattach.api.controller_points import Point
from reattach.api.ids import TenantId
from reattach.api.location import LocationConfig
from reattach.runtime.auth import Scope
from reattach.runtime.errors import BadRequest, Conflict
from reattach.runtime.failpoints import failpoints
from reattach.runtime.http import json_response, query_param, read_json
from reattach.storage_controller.controller import Controller
from reattach.storage_controller.db import imports
from reattach.storage_controller.routes.guard import (
    RouteSpec,
    tenant_id,
    tenant_shard_id,
    unsupported,
)


async def create(controller: Controller, request: Request) -> object:
    body = await read_json(request, TenantCreateRequest)
    async with controller.locks.exclusive(body.new_tenant_id.tenant_id, "Create"):
        return json_response(await controller.tenants.create(body), 201)


async def delete(controller: Controller, request: Request) -> object:
    tenant = tenant_id(request)
    async with controller.locks.exclusive(tenant, "Delete"), controller.imports.deleting(tenant):
        await controller.tenants.delete(tenant)
    return None


async def drop(controller: Controller, request: Request) -> object:
    tenant = tenant_id(request)
    async with controller.locks.exclusive(tenant, "Drop"), controller.imports.deleting(tenant):
        await controller.tenants.drop(tenant)
    return None


async def describe(controller: Controller, request: Request) -> object:
    return await controller.tenant_view.describe(tenant_id(request))


async def list_all(controller: Controller, request: Request) -> object:
    limit = query_param(request, "limit", int)
    start_after = query_param(request, "start_after", TenantId)
    return await controller.tenant_view.describe_all(start_after, 1000 if limit is None else max(limit, 0))


async def dump(controller: Controller, request: Request) -> object:
    return await controller.tenant_view.dump()


async def locate(controller: Controller, request: Request) -> object:
    return controller.tenant_view.locate(tenant_id(request))


async def update_policy(controller: Controller, request: Request) -> object:
    tenant = tenant_id(request)
    body = await read_json(request, TenantPolicyRequest)
    async with controller.locks.exclusive(tenant, "UpdatePolicy"):
        await failpoints.sleep_for_returned_ms(Point.UPDATE_POLICY_LOCKED)
        await controller.tenants.update_policy(tenant, body)
    return None


async def _config_request(request: Request) -> tuple[TenantId, dict[str, Any]]:
    body = await read_json(request, dict[str, Any])
    try:
        tenant = TenantId(str(body.pop("tenant_id", "")))
    except ValueError as e:
        raise BadRequest(str(e)) from e
    unknown = sorted(body.keys() - TENANT_CONFIG_KEYS)
    if unknown:
        raise BadRequest(f"unknown field `{unknown[0]}`")
    return tenant, body


async def set_config(controller: Controller, request: Request) -> object:
    tenant, config = await _config_request(request)
    async with controller.locks.exclusive(tenant, "ConfigSet"):
        await controller.tenants.update_config(tenant, config, patch=False)
    return None


async def patch_config(controller: Controller, request: Request) -> object:
    tenant, config = await _config_request(request)
    async with controller.locks.exclusive(tenant, "ConfigPatch"):
        await controller.tenants.update_config(tenant, config, patch=True)
    return None


async def get_config(controller: Controller, request: Request) -> object:
    config = controller.tenants.shards_of(tenant_id(request))[0].config
    return {"tenant_specific_overrides": config, "effective_config": config}


async def location_config(controller: Controller, request: Request) -> object:
    shard = tenant_shard_id(request)
    body = await read_json(request, LocationConfig)
    async with controller.locks.exclusive(shard.tenant_id, "LocationConfig"):
        return await controller.tenant_locations.location_config(shard, body)


async def migrate(controller: Controller, request: Request) -> object:
    shard = tenant_shard_id(request)
    body = await read_json(request, TenantShardMigrateRequest)
    async with controller.locks.shared(shard.tenant_id, "ShardMigrate"):
        await controller.moving.migrate(shard, body)
    return codec.to_builtins({})


async def shard_split(controller: Controller, request: Request) -> object:
    if await imports.importing_tenants(controller.db, [tenant_id(request)]):
        raise Conflict("Cannot shard split during timeline import")
    return await unsupported(controller, request)


ROUTES = [
    RouteSpec("POST", "/v1/tenant", Scope.PAGE_SERVER_API, create, waits=True),
    RouteSpec("PATCH", "/v1/tenant/config", Scope.PAGE_SERVER_API, patch_config, waits=True),
    RouteSpec("PUT", "/v1/tenant/config", Scope.PAGE_SERVER_API, set_config, waits=True),
    RouteSpec("GET", "/v1/tenant/{tenant_id}/config", Scope.PAGE_SERVER_API, get_config, waits=True),
    RouteSpec("DELETE", "/v1/tenant/{tenant_id}", Scope.PAGE_SERVER_API, delete, waits=True),
    RouteSpec(
        "PUT",
        "/v1/tenant/{tenant_shard_id}/location_config",
        Scope.PAGE_SERVER_API,
        location_config,
        waits=True,
    ),
    RouteSpec("GET", "/control/v1/tenant", Scope.ADMIN, list_all, waits=True),
    RouteSpec("GET", "/control/v1/tenant/{tenant_id}", Scope.SCRUBBER, describe, waits=True),
    RouteSpec("PUT", "/control/v1/tenant/{tenant_id}/policy", Scope.ADMIN, update_policy),
    RouteSpec("PUT", "/control/v1/tenant/{tenant_id}/shard_split", Scope.ADMIN, shard_split, waits=True),
    RouteSpec("PUT", "/control/v1/tenant/{tenant_shard_id}/migrate", Scope.ADMIN, migrate, waits=True),
    RouteSpec("GET", "/debug/v1/tenant", Scope.ADMIN, dump),
    RouteSpec("GET", "/debug/v1/tenant/{tenant_id}/locate", Scope.ADMIN, locate, waits=True),
    RouteSpec("POST", "/debug/v1/tenant/{tenant_id}/drop", Scope.PAGE_SERVER_API, drop),
]
