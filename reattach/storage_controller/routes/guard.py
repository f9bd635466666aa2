"""What happens to every request before and after its handler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from reattach.api.ids import TenantId, TenantShardId, TimelineId
from reattach.runtime.auth import Scope
from reattach.runtime.errors import ApiError, BadRequest, Timeout
from reattach.runtime.failpoints import FailpointPanic
from reattach.runtime.http import (
    Handler,
    Query,
    Route,
    body_type,
    path_param,
    read_json,
    requested_path,
)
from reattach.storage_controller.background import panic
from reattach.storage_controller.controller import Controller
from reattach.storage_controller.pageserver_client import PageserverError

STARTUP_TIMEOUT = 30.0

ControllerHandler = Callable[..., Awaitable[object]]
"""Takes the controller, the request and, if it has a parameter of that name, the request's `body`."""


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """scope: whose tokens are good for it; `admin` is good for every route.

    waits: not before the controller knows where everything is.
    """

    method: str
    path: str
    scope: Scope
    handler: ControllerHandler
    waits: bool = False
    query: tuple[Query[Any], ...] = ()

    @property
    def body(self) -> Any:
        """The type of its body, None if it takes none."""
        return body_type(self.handler)

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """Whose tokens are good for it."""
        return tuple(dict.fromkeys((self.scope, Scope.ADMIN)))


def guarded(controller: Controller, specs: Sequence[RouteSpec]) -> list[Route]:
    """Routes for `json_app` that check the token, wait for start-up if need be, and count."""
    return [
        Route(
            spec.method,
            spec.path,
            _guard(controller, spec),
            spec.body,
            spec.query,
            " or ".join(spec.scopes),
        )
        for spec in specs
    ]


def _guard(controller: Controller, spec: RouteSpec) -> Handler:
    body_type = spec.body
    metrics = controller.metrics
    latency = metrics.http_request_latency.labels(spec.path, spec.method)

    def count(status: int) -> None:
        metrics.http_request_status.labels(spec.path, spec.method, status).inc()

    async def handle(request: Request) -> object:
        started = time.monotonic()
        try:
            if controller.auth is not None:
                controller.auth.claims_of(request).require(*spec.scopes)
            if spec.waits:
                await _await_start(controller)
            if body_type is None:
                answer = await spec.handler(controller, request)
            else:
                answer = await spec.handler(controller, request, await read_json(request, body_type))
        except PageserverError as e:
            error = e.to_api_error()
            metrics.passthrough_request_error.labels(e.node.id).inc()
            count(error.status)
            raise error from None
        except ApiError as e:
            count(e.status)
            raise
        except FailpointPanic as e:
            panic(f"{spec.method} {spec.path}", e)
            raise
        finally:
            latency.observe(time.monotonic() - started)
        count(getattr(answer, "status_code", 200))
        return answer

    return handle


async def _await_start(controller: Controller) -> None:
    if controller.started.is_set():
        return
    try:
        async with asyncio.timeout(STARTUP_TIMEOUT):
            await controller.started.wait()
    except TimeoutError:
        raise Timeout("Timed out waiting for service readiness") from None


def tenant_id(request: Request) -> TenantId:
    """Raises BadRequest."""
    return path_param(request, "tenant_id", TenantId)


def tenant_shard_id(request: Request) -> TenantShardId:
    """Raises BadRequest."""
    return path_param(request, "tenant_shard_id", TenantShardId.parse)


def timeline_id(request: Request) -> TimelineId:
    """Raises BadRequest."""
    return path_param(request, "timeline_id", TimelineId)


async def unsupported(_: Controller, request: Request) -> object:
    """Parts of the API that only make sense in a larger system."""
    raise BadRequest(f"{request.method} {requested_path(request)} is not supported by this controller")
