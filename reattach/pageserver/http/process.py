"""The process itself: status, failpoints, metrics, and what works on all tenants."""

from __future__ import annotations

import logging
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from reattach.api.controller import FailpointConfig
from reattach.pageserver.eviction import evict_bytes
from reattach.pageserver.http.api import Api, Endpoint
from reattach.runtime.errors import BadRequest, InternalError, ResourceUnavailable
from reattach.runtime.failpoints import failpoints
from reattach.runtime.http import BOOLEAN, Query, parse_bool

log = logging.getLogger(__name__)

_LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
}


_EXECUTE = Query("execute", parse_bool, BOOLEAN)


async def status(api: Api, _: Request) -> object:
    return {"id": api.context.node_id}


async def put_failpoints(api: Api, _: Request, body: list[FailpointConfig]) -> object:
    for each in body:
        try:
            failpoints.configure(each.name, each.actions)
        except ValueError as e:
            raise BadRequest(f"Failed to configure failpoints: {e}") from e
    return None


async def metrics(api: Api, _: Request) -> Response:
    return Response(api.context.metrics.exposition(), media_type="text/plain; version=0.0.4")


async def flush_deletions(api: Api, request: Request) -> object:
    if _EXECUTE.of(request):
        await api.context.deletions.flush_execute()
    else:
        await api.context.deletions.flush()
    return None


class _EvictionRun(msgspec.Struct, frozen=True):
    evict_bytes: int
    eviction_order: dict[str, Any] | None = None


async def run_eviction(api: Api, _: Request, body: _EvictionRun) -> object:
    if body.evict_bytes < 0:
        raise BadRequest("evict_bytes must not be negative")
    if body.evict_bytes == 0:
        return "NoPressure"
    if api.evicting.locked():
        raise InternalError("iteration is already executing")
    async with api.evicting:
        return {"Finished": await evict_bytes(api.tenants, body.evict_bytes)}


async def top_tenants(api: Api, _: Request, body: dict[str, Any]) -> object:
    """What the controller would split; nothing here grows, so nothing is worth splitting."""
    return {"shards": []}


class _Event(msgspec.Struct, frozen=True):
    level: Literal["error", "warn", "info", "debug", "trace"]
    message: str


async def log_event(api: Api, _: Request, body: _Event) -> object:
    """Writes a line into the log, so that a test can tell what came before and after."""
    log.log(_LEVELS[body.level], "%s", body.message)
    return None


async def utilization(api: Api, _: Request) -> object:
    if await failpoints.hit("get-utilization-http-handler") is not None:
        raise ResourceUnavailable("failpoint")

    def wanted() -> int:
        shards = api.tenants.attached()
        return sum(timeline.client.remote_size for shard in shards for timeline in shard.all_timelines())

    try:
        return api.meter.measure(disk_wanted=wanted, shard_count=api.tenants.slot_count)
    except OSError as e:
        raise InternalError(f"cannot measure the disk: {e}") from e


ENDPOINTS = [
    Endpoint("GET", "/v1/status", status),
    Endpoint("PUT", "/v1/failpoints", put_failpoints),
    Endpoint("GET", "/metrics", metrics),
    Endpoint("PUT", "/v1/deletion_queue/flush", flush_deletions, (_EXECUTE,)),
    Endpoint("PUT", "/v1/disk_usage_eviction/run", run_eviction),
    Endpoint("POST", "/v1/top_tenants", top_tenants),
    Endpoint("POST", "/v1/tracing/event", log_event),
    Endpoint("GET", "/v1/utilization", utilization),
]
