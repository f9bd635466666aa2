"""What happens to every request before and after its handler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.requests import Request

from reattach.api.ids import TenantId, TenantShardId, TimelineId
from reattach.runtime.auth import Scope
from reattach.runtime.errors import ApiError, BadRequest, Timeout
from reattach.runtime.failpoints import FailpointPanic
from reattach.runtime.http import Handler, path_param
from reattach.storage_controller.background import panic
from reattach.storage_controller.controller import Controller
from reattach.storage_controller.pageserver_client import PageserverError

STARTUP_TIMEOUT = 30.0

ControllerHandler = Callable[[Controller, Request], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """waits: not before the controller knows where everything is."""

    method: str
    path: str
    scope: Scope
    handler: ControllerHandler
    waits: bool = False


def guarded(controller: Controller, specs: Sequence[RouteSpec]) -> list[tuple[str, str, Handler]]:
    """Routes for `json_app` that check the token, wait for start-up if need be, and count."""
    return [(spec.method, spec.path, _guard(controller, spec)) for spec in specs]


def _guard(controller: Controller, spec: RouteSpec) -> Handler:
    metrics = controller.metrics
    latency = metrics.http_request_latency.labels(spec.path, spec.method)

    def count(status: int) -> None:
        metrics.http_request_status.labels(spec.path, spec.method, status).inc()

    async def handle(request: Request) -> object:
        started = time.monotonic()
        try:
            if controller.auth is not None:
                controller.auth.require(request, spec.scope)
            if spec.waits:
                await _await_start(controller)
            answer = await spec.handler(controller, request)
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
    raise BadRequest(f"{request.method} {request.url.path} is not supported by this controller")
