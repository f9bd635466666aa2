"""Timelines: made, seen, activated, deleted."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from reattach.api.timeline import TimelineInfo
from reattach.pageserver.http.api import TENANT, TIMELINE, Api, Endpoint, shard_id, timeline_id
from reattach.pageserver.scope import ScopeClosed
from reattach.pageserver.timeline.activate import activate_post_import
from reattach.pageserver.timeline.create import TimelineCreateRequest, create_timeline
from reattach.pageserver.timeline.delete import delete_timeline
from reattach.pageserver.timeline.info import timeline_info
from reattach.pageserver.timeline.logical_size import ensure_logical_size
from reattach.runtime.errors import NotFound, PreconditionFailed, Timeout
from reattach.runtime.failpoints import failpoints
from reattach.runtime.http import BOOLEAN, WHOLE, Query, json_response, parse_bool, parse_milliseconds
from reattach.runtime.tasks import started

log = logging.getLogger(__name__)

_ACTIVATE_SECONDS = 1.0
_ACTIVATE_TIMEOUT_MS = Query("timeline_activate_timeout_ms", parse_milliseconds, WHOLE)
_AWAIT_SIZE = Query("force-await-initial-logical-size", parse_bool, BOOLEAN)
_INFO_PARAMS = (
    Query("include-non-incremental-logical-size", parse_bool, BOOLEAN),
    _AWAIT_SIZE,
    Query("include-image-consistent-lsn", parse_bool, BOOLEAN),
)


def _check_info_params(request: Request) -> None:
    for parameter in _INFO_PARAMS:
        parameter.of(request)


async def list_timelines(api: Api, request: Request) -> list[TimelineInfo]:
    _check_info_params(request)
    shard = await api.attached(request)
    for timeline in shard.timelines.values():
        ensure_logical_size(timeline)
    return [timeline_info(timeline) for timeline in shard.timelines.values()]


async def list_with_offloaded(api: Api, request: Request) -> object:
    return {"timelines": await list_timelines(api, request), "offloaded": []}


async def detail(api: Api, request: Request) -> object:
    _check_info_params(request)
    id_ = timeline_id(request)
    shard = await api.attached(request)
    timeline = shard.timeline(id_)
    computing = ensure_logical_size(timeline)
    if computing is not None and _AWAIT_SIZE.of(request):
        await asyncio.wait({computing})
    return timeline_info(timeline)


async def create(api: Api, request: Request, body: TimelineCreateRequest) -> Response:
    shard = await api.attached(request)
    return json_response(await shard.scope.run(create_timeline(shard, body)), 201)


async def delete(api: Api, request: Request) -> Response:
    id_ = timeline_id(request)
    try:
        shard = api.tenants.get_attached(shard_id(request))
    except NotFound as e:
        raise PreconditionFailed("Requested tenant is missing") from e
    await shard.wait_active()
    await shard.scope.run(delete_timeline(shard, id_))
    return json_response(None, 202)


async def activate(api: Api, request: Request) -> TimelineInfo:
    id_ = timeline_id(request)
    timeout = _ACTIVATE_TIMEOUT_MS.of(request)
    shard = await api.attached(request)
    # An upload that is slow goes on, so that one of the next calls finds it done.
    activation = started(shard.scope.spawn(activate_post_import(shard, id_)))
    done, _ = await asyncio.wait({activation}, timeout=_ACTIVATE_SECONDS if timeout is None else timeout)
    if not done:
        raise Timeout("Timeline activation timed out")
    if activation.cancelled():
        raise ScopeClosed
    return activation.result()


async def checkpoint(api: Api, request: Request) -> object:
    """Everything that is read here is durable already; this only waits until that is so."""
    shard = await api.attached(request)
    timeline = shard.active_timeline(timeline_id(request))
    timeline.client.schedule_index_upload_if_changed()
    await timeline.client.wait_completion()
    return None


class _GcRequest(msgspec.Struct, frozen=True):
    """gc_horizon: bytes of WAL to keep, None for the tenant's."""

    gc_horizon: Annotated[int, msgspec.Meta(ge=0)] | None = None


class _GcResult(msgspec.Struct, frozen=True):
    """Counts of layers. elapsed in milliseconds."""

    elapsed: int
    layers_total: int = 0
    layers_needed_by_cutoff: int = 0
    layers_needed_by_pitr: int = 0
    layers_needed_by_branches: int = 0
    layers_needed_by_leases: int = 0
    layers_not_updated: int = 0
    layers_removed: int = 0


async def do_gc(api: Api, request: Request, body: _GcRequest) -> _GcResult:
    """A timeline ends where it began, so its cutoff never moves, and there is nothing to look through."""
    id_ = timeline_id(request)
    shard = await api.attached(request)
    started = time.monotonic()
    with shard.scope.section():  # a detach waits for it
        timeline = shard.timelines.get(id_)
        if timeline is None:
            raise NotFound("Timeline not found")
        await failpoints.sleep_for_returned_ms("gc_iteration_internal_after_getting_gc_timelines")
    log.info("Nothing to GC: timeline %s has no history", timeline)
    return _GcResult(int((time.monotonic() - started) * 1000))


ENDPOINTS = [
    Endpoint("GET", TENANT + "/timeline", list_timelines, _INFO_PARAMS),
    Endpoint("GET", TENANT + "/timeline_and_offloaded", list_with_offloaded, _INFO_PARAMS),
    Endpoint("POST", TENANT + "/timeline", create),
    Endpoint("GET", TIMELINE, detail, _INFO_PARAMS),
    Endpoint("DELETE", TIMELINE, delete),
    Endpoint("PUT", TIMELINE + "/activate_post_import", activate, (_ACTIVATE_TIMEOUT_MS,)),
    Endpoint("PUT", TIMELINE + "/checkpoint", checkpoint),
    Endpoint("PUT", TIMELINE + "/do_gc", do_gc),
]
