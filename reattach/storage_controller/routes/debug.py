"""What tests and people in trouble need."""

from __future__ import annotations

from starlette.requests import Request

from reattach.api.controller import AttachHookRequest, AttachHookResponse, FailpointConfig, InspectRequest
from reattach.runtime.auth import Scope
from reattach.runtime.errors import BadRequest, InternalError, NotFound
from reattach.runtime.failpoints import failpoints
from reattach.storage_controller.controller import Controller
from reattach.storage_controller.db import nodes
from reattach.storage_controller.routes.guard import RouteSpec
from reattach.storage_controller.tenants import RECONCILE_TIMEOUT


async def attach_hook(controller: Controller, _: Request, body: AttachHookRequest) -> object:
    async with controller.locks.exclusive(body.tenant_shard_id.tenant_id, "AttachHook"):
        return AttachHookResponse(await controller.tenant_locations.attach_hook(body))


async def inspect(controller: Controller, _: Request, body: InspectRequest) -> object:
    return controller.tenant_view.inspect(body.tenant_shard_id)


async def reconcile_all(controller: Controller, _: Request) -> object:
    return await controller.reconcile_all(RECONCILE_TIMEOUT)


async def consistency_check(controller: Controller, _: Request) -> object:
    """What is under way is given time to end; it is no inconsistency."""
    if not await controller.reconciler.wait_idle(RECONCILE_TIMEOUT):
        raise InternalError(f"{len(controller.reconciler.running)} reconciles are running")
    found = await controller.inconsistencies()
    if found:
        raise InternalError("; ".join(found))
    return None


async def set_failpoints(_: Controller, __: Request, body: list[FailpointConfig]) -> object:
    for failpoint in body:
        try:
            failpoints.configure(failpoint.name, failpoint.actions)
        except ValueError as e:
            raise BadRequest(f"Failed to configure failpoints: {e}") from e
    return None


async def scheduler(controller: Controller, _: Request) -> object:
    return {
        "nodes": {
            str(c.node_id): {
                "shard_count": len(controller.state.shards_on(c.node_id)),
                "attached_shard_count": c.attached,
                "may_schedule": "Yes" if c.may_schedule else "No",
                "utilization_score": c.score,
                "az": c.availability_zone,
            }
            for c in controller.state.candidates()
        }
    }


async def leader(controller: Controller, _: Request) -> object:
    found = await nodes.leader(controller.db)
    if found is None:
        raise NotFound("no leader is recorded")
    return {"address": found[0], "started_at": found[1]}


ROUTES = [
    RouteSpec("POST", "/debug/v1/attach-hook", Scope.ADMIN, attach_hook),
    RouteSpec("POST", "/debug/v1/inspect", Scope.ADMIN, inspect),
    RouteSpec("POST", "/debug/v1/reconcile_all", Scope.ADMIN, reconcile_all, waits=True),
    RouteSpec("POST", "/debug/v1/consistency_check", Scope.ADMIN, consistency_check, waits=True),
    RouteSpec("PUT", "/debug/v1/failpoints", Scope.ADMIN, set_failpoints),
    RouteSpec("GET", "/debug/v1/scheduler", Scope.ADMIN, scheduler),
    RouteSpec("GET", "/control/v1/leader", Scope.ADMIN, leader),
]
