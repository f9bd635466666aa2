"""Tenants and their shards."""

from __future__ import annotations

from starlette.requests import Request

from reattach.api import codec
from reattach.api.controller import (
    TenantConfigRequest,
    TenantCreateRequest,
    TenantPolicyRequest,
    TenantShardMigrateRequest,
    check_tenant_config,
)
from reattach.api.controller_points import Point
from reattach.api.ids import TenantId
from reattach.api.location import LocationConfig
from reattach.runtime.auth import Scope
from reattach.runtime.errors import BadRequest, Conflict
from reattach.runtime.failpoints import failpoints
from reattach.runtime.http import WHOLE, Query, json_response, parse_whole
from reattach.storage_controller.controller import Controller
from reattach.storage_controller.db import imports
from reattach.storage_controller.routes.guard import (
    RouteSpec,
    tenant_id,
    tenant_shard_id,
    unsupported,
)

_LIMIT = Query("limit", parse_whole, WHOLE)
_START_AFTER = Query("start_after", TenantId, {"type": "string", "pattern": "^[0-9a-fA-F]{32}$"})


async def create(controller: Controller, _: Request, body: TenantCreateRequest) -> object:
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
    limit, start_after = _LIMIT.of(request), _START_AFTER.of(request)
    return await controller.tenant_view.describe_all(start_after, 1000 if limit is None else limit)


async def dump(controller: Controller, request: Request) -> object:
    return await controller.tenant_view.dump()


async def locate(controller: Controller, request: Request) -> object:
    return controller.tenant_view.locate(tenant_id(request))


async def update_policy(controller: Controller, request: Request, body: TenantPolicyRequest) -> object:
    tenant = tenant_id(request)
    async with controller.locks.exclusive(tenant, "UpdatePolicy"):
        await failpoints.sleep_for_returned_ms(Point.UPDATE_POLICY_LOCKED)
        await controller.tenants.update_policy(tenant, body)
    return None


def _check_config(config: dict[str, object]) -> None:
    """Raises BadRequest."""
    try:
        check_tenant_config(config)
    except ValueError as e:
        raise BadRequest(str(e)) from e


async def set_config(controller: Controller, _: Request, body: TenantConfigRequest) -> object:
    _check_config(body.config)
    async with controller.locks.exclusive(body.tenant_id, "ConfigSet"):
        await controller.tenants.update_config(body.tenant_id, body.config, patch=False)
    return None


async def patch_config(controller: Controller, _: Request, body: TenantConfigRequest) -> object:
    _check_config(body.config)
    async with controller.locks.exclusive(body.tenant_id, "ConfigPatch"):
        await controller.tenants.update_config(body.tenant_id, body.config, patch=True)
    return None


async def get_config(controller: Controller, request: Request) -> object:
    config = controller.tenants.shards_of(tenant_id(request))[0].config
    return {"tenant_specific_overrides": config, "effective_config": config}


async def location_config(controller: Controller, request: Request, body: LocationConfig) -> object:
    shard = tenant_shard_id(request)
    async with controller.locks.exclusive(shard.tenant_id, "LocationConfig"):
        return await controller.tenant_locations.location_config(shard, body)


async def migrate(controller: Controller, request: Request, body: TenantShardMigrateRequest) -> object:
    shard = tenant_shard_id(request)
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
    RouteSpec("GET", "/control/v1/tenant", Scope.ADMIN, list_all, waits=True, query=(_LIMIT, _START_AFTER)),
    RouteSpec("GET", "/control/v1/tenant/{tenant_id}", Scope.SCRUBBER, describe, waits=True),
    RouteSpec("PUT", "/control/v1/tenant/{tenant_id}/policy", Scope.ADMIN, update_policy),
    RouteSpec("PUT", "/control/v1/tenant/{tenant_id}/shard_split", Scope.ADMIN, shard_split, waits=True),
    RouteSpec("PUT", "/control/v1/tenant/{tenant_shard_id}/migrate", Scope.ADMIN, migrate, waits=True),
    RouteSpec("GET", "/debug/v1/tenant", Scope.ADMIN, dump),
    RouteSpec("GET", "/debug/v1/tenant/{tenant_id}/locate", Scope.ADMIN, locate, waits=True),
    RouteSpec("POST", "/debug/v1/tenant/{tenant_id}/drop", Scope.PAGE_SERVER_API, drop),
]
