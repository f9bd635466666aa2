"""Secondary locations."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from reattach.pageserver.http.api import TENANT, Api, Endpoint, shard_id
from reattach.runtime.http import WHOLE, Query, json_response, parse_milliseconds

_WAIT_MS = Query("wait_ms", parse_milliseconds, WHOLE)


async def status(api: Api, request: Request) -> object:
    return api.tenants.get_secondary(shard_id(request)).progress


async def download(api: Api, request: Request) -> Response:
    """200 when everything that the heatmap lists is here; 202 when the time is up, or it ended early."""
    secondary = api.tenants.get_secondary(shard_id(request))
    complete = await secondary.download(_WAIT_MS.of(request))
    return json_response(secondary.progress, 200 if complete else 202)


ENDPOINTS = [
    Endpoint("GET", TENANT + "/secondary/status", status),
    Endpoint("POST", TENANT + "/secondary/download", download, (_WAIT_MS,)),
]
