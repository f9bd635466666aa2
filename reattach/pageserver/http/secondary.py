"""Secondary locations."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from reattach.pageserver.http.api import TENANT, Api, Route, routes_of, shard_id
from reattach.runtime.errors import BadRequest
from reattach.runtime.http import json_response, query_param


def routes(api: Api) -> list[Route]:
    return routes_of(
        api,
        [
            ("GET", TENANT + "/secondary/status", status),
            ("POST", TENANT + "/secondary/download", download),
        ],
    )


async def status(api: Api, request: Request) -> object:
    return api.tenants.get_secondary(shard_id(request)).progress


async def download(api: Api, request: Request) -> Response:
    """200 when everything that the heatmap lists is here; 202 when the time is up, or it ended early."""
    secondary = api.tenants.get_secondary(shard_id(request))
    wait_ms = query_param(request, "wait_ms", int)
    if wait_ms is not None and wait_ms < 0:
        raise BadRequest("cannot parse query param wait_ms")
    complete = await secondary.download(None if wait_ms is None else wait_ms / 1000)
    return json_response(secondary.progress, 200 if complete else 202)
