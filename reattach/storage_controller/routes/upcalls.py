"""What pageservers ask."""

from __future__ import annotations

from starlette.requests import Request

from reattach.api.upcall import (
    GetImportStatusRequest,
    PutImportStatusRequest,
    ReAttachRequest,
    ValidateRequest,
    ValidateResponse,
    ValidateResult,
)
from reattach.runtime.auth import Scope
from reattach.storage_controller.controller import Controller
from reattach.storage_controller.db import shards
from reattach.storage_controller.routes.guard import RouteSpec


async def re_attach(controller: Controller, _: Request, body: ReAttachRequest) -> object:
    return await controller.pageservers.re_attach(body)


async def validate(controller: Controller, _: Request, body: ValidateRequest) -> object:
    """Only the database knows: memory may lag behind it in the middle of a migration."""
    issued = await shards.issued(controller.db, list({tenant.id for tenant in body.tenants}))
    return ValidateResponse(
        [
            ValidateResult(tenant.id, issued[tenant.id].generation == tenant.gen)
            for tenant in body.tenants
            if tenant.id in issued
        ]
    )


async def import_status(controller: Controller, _: Request, body: GetImportStatusRequest) -> object:
    return await controller.imports.status(body)


async def report_import_status(controller: Controller, _: Request, body: PutImportStatusRequest) -> object:
    await controller.imports.report(body)
    return None


ROUTES = [
    RouteSpec("POST", "/upcall/v1/re-attach", Scope.GENERATIONS_API, re_attach),
    RouteSpec("POST", "/upcall/v1/validate", Scope.GENERATIONS_API, validate),
    RouteSpec("GET", "/upcall/v1/timeline_import_status", Scope.GENERATIONS_API, import_status),
    RouteSpec("POST", "/upcall/v1/timeline_import_status", Scope.GENERATIONS_API, report_import_status),
]
