"""Tenant shards: where they are, and how that changes."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from starlette.requests import Request

from reattach.api.controller import TenantConfigRequest
from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.location import (
    LocationConfig,
    LocationConfigMode,
    TenantLocationConfigResponse,
    TenantShardLocation,
)
from reattach.api.lsn import Lsn
from reattach.pageserver.http.api import TENANT, Api, Endpoint, shard_id
from reattach.pageserver.secondary.upload import upload_heatmap
from reattach.pageserver.tenant.effective_config import effective_config
from reattach.pageserver.tenant.location import LocationConf
from reattach.pageserver.tenant.shard import TenantShard
from reattach.pageserver.tenant.state import Phase
from reattach.runtime.errors import BadRequest, ResourceUnavailable
from reattach.runtime.failpoints import failpoints
from reattach.runtime.http import BOOLEAN, WHOLE, Query, parse_bool, parse_milliseconds

_ACTIVATE = Query("activate", parse_bool, BOOLEAN)
_FLUSH_MS = Query("flush_ms", parse_milliseconds, WHOLE)
_LAZY = Query("lazy", parse_bool, BOOLEAN)
_DROP_CACHE = Query("drop_cache", parse_bool, BOOLEAN)


def _info(shard: TenantShard, physical_size: int | None) -> dict[str, Any]:
    return {
        "id": shard.id,
        "state": shard.state.to_json(),
        "current_physical_size": physical_size,
        "attachment_status": shard.state.attachment_status(),
        "generation": shard.generation,
    }


async def list_tenants(api: Api, _: Request) -> object:
    return [_info(shard, None) for shard in api.tenants.attached()]


async def get_tenant(api: Api, request: Request) -> object:
    shard = api.tenants.get_attached(shard_id(request))
    if _ACTIVATE.of(request) is not False:
        await shard.settled()
    size = sum(timeline.resident_size for timeline in shard.timelines.values())
    return _info(shard, size) | {"walredo": None, "timelines": list(shard.timelines)}


async def delete_tenant(api: Api, request: Request) -> object:
    """Removes the tenant shard from here and from remote storage. Unsharded: all of the tenant's shards."""
    await api.tenants.delete(shard_id(request))
    return None


async def list_locations(api: Api, _: Request) -> object:
    return {
        "tenant_shards": [
            [id_, None if conf is None else conf.to_api()] for id_, conf in api.tenants.locations()
        ]
    }


async def get_location(api: Api, request: Request) -> object:
    conf = api.tenants.get_location(shard_id(request))
    return None if conf is None else conf.to_api()


async def put_location(api: Api, request: Request, body: LocationConfig) -> object:
    target = shard_id(request)
    flush_seconds = _FLUSH_MS.of(request)
    lazy = _LAZY.of(request) or False
    if await failpoints.hit("put-location-conf-handler") is not None:
        raise ResourceUnavailable("failpoint")
    if body.mode is LocationConfigMode.DETACHED:
        await api.tenants.detach(target)
        return None
    conf = LocationConf.from_request(body, target.shard_index)
    await api.tenants.upsert_location(target, conf, flush_seconds=flush_seconds, lazy=lazy)
    if flush_seconds is not None:
        await upload_heatmap(api.tenants, target, flush_seconds)
    return _location_response(api, target, conf)


def _location_response(api: Api, target: TenantShardId, conf: LocationConf) -> TenantLocationConfigResponse:
    if not conf.is_attached:
        return TenantLocationConfigResponse([])
    stripe_size = conf.shard.stripe_size if conf.shard.count > 1 else None
    return TenantLocationConfigResponse([TenantShardLocation(target, api.context.node_id)], stripe_size)


async def reset(api: Api, request: Request) -> object:
    drop_cache = _DROP_CACHE.of(request) or False
    await api.tenants.reset(shard_id(request), drop_cache=drop_cache)
    return None


async def break_tenant(api: Api, request: Request) -> object:
    """For tests of what others do about a broken tenant."""
    api.tenants.get_attached(shard_id(request)).state.advance(Phase.BROKEN, "broken from test")
    return None


async def heatmap_upload(api: Api, request: Request) -> object:
    shard = await api.attached(request)
    await upload_heatmap(api.tenants, shard.id, None)
    return None


async def wait_lsn(api: Api, request: Request, body: dict[str, Any]) -> object:
    """`{"<timeline>": "<lsn>", …, "timeout": …}`. No timeline here advances: there is nothing to wait for."""
    for timeline, lsn in body.items():
        if timeline != "timeout":
            _check_lsn(timeline, lsn)
    if "timeout" not in body:
        raise BadRequest("`timeout` is missing")
    await api.attached(request)
    return None


def _check_lsn(timeline: str, lsn: Any) -> None:
    try:
        TimelineId(timeline)
        Lsn.from_json(lsn)
    except (ValueError, TypeError) as e:
        raise BadRequest(f"not a timeline's LSN: {timeline}: {lsn}: {e}") from e


# Tenant configuration


async def get_config(api: Api, request: Request) -> object:
    shard = api.tenants.get_attached(shard_id(request))
    overrides = shard.conf.tenant_conf
    return {
        "tenant_specific_overrides": overrides,
        "effective_config": effective_config(api.context.config.tenant_config, overrides),
    }


async def put_config(api: Api, _: Request, body: TenantConfigRequest) -> object:
    """Replaces the tenant's configuration."""
    shard = api.tenants.get_attached(TenantShardId.unsharded(body.tenant_id))
    conf = {key: value for key, value in body.config.items() if value is not None}
    await api.tenants.set_tenant_conf(shard.id, replace(shard.conf, tenant_conf=conf))
    return None


async def patch_config(api: Api, _: Request, body: TenantConfigRequest) -> object:
    """Changes what the body names; null removes."""
    shard = api.tenants.get_attached(TenantShardId.unsharded(body.tenant_id))
    conf = copy.deepcopy(shard.conf.tenant_conf) | body.config
    conf = {key: value for key, value in conf.items() if value is not None}
    await api.tenants.set_tenant_conf(shard.id, replace(shard.conf, tenant_conf=conf))
    return None


ENDPOINTS = [
    Endpoint("GET", "/v1/tenant", list_tenants),
    Endpoint("PUT", "/v1/tenant/config", put_config),
    Endpoint("PATCH", "/v1/tenant/config", patch_config),
    Endpoint("GET", "/v1/location_config", list_locations),
    Endpoint("GET", "/v1/location_config/{tenant_shard_id}", get_location),
    Endpoint("GET", TENANT, get_tenant, (_ACTIVATE,)),
    Endpoint("DELETE", TENANT, delete_tenant),
    Endpoint("GET", TENANT + "/config", get_config),
    Endpoint("PUT", TENANT + "/location_config", put_location, (_FLUSH_MS, _LAZY)),
    Endpoint("POST", TENANT + "/reset", reset, (_DROP_CACHE,)),
    Endpoint("PUT", TENANT + "/break", break_tenant),
    Endpoint("POST", TENANT + "/heatmap_upload", heatmap_upload),
    Endpoint("POST", TENANT + "/wait_lsn", wait_lsn),
]
