"""Layers: listed, downloaded, evicted, checked for keys that do not belong here."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from reattach.api.layer_name import LayerName
from reattach.api.timeline import ScanDisposableKeysResponse
from reattach.pageserver.http.api import TIMELINE, Api, Endpoint, timeline_id, unknown_layer
from reattach.pageserver.timeline.info import layer_map_info
from reattach.pageserver.timeline.layer import Layer
from reattach.pageserver.timeline.timeline import Timeline
from reattach.runtime.errors import BadRequest
from reattach.runtime.http import json_response


async def _timeline(api: Api, request: Request) -> Timeline:
    id_ = timeline_id(request)
    return (await api.attached(request)).active_timeline(id_)


def _find(timeline: Timeline, request: Request) -> Layer | None:
    """The layer of the path, whose name may end with a generation."""
    try:
        return timeline.layers.get(LayerName.parse(request.path_params["layer_name"]))
    except ValueError:
        return None


def _changed(changed: bool) -> Response:
    # A 304 has no body, or the client would take it for the start of the next answer.
    return json_response(None) if changed else Response(status_code=304)


async def layer_map(api: Api, request: Request) -> object:
    return layer_map_info(await _timeline(api, request))


async def download(api: Api, request: Request) -> Response:
    timeline = await _timeline(api, request)
    layer = _find(timeline, request)
    if layer is None:
        raise BadRequest("Layer not found")
    downloaded = await timeline.ensure_resident(layer)
    return _changed(downloaded)


async def evict(api: Api, request: Request) -> Response:
    timeline = await _timeline(api, request)
    layer = _find(timeline, request)
    if layer is None:
        raise BadRequest("Layer not found")
    return _changed(await timeline.evict(layer))


async def scan_disposable_keys(api: Api, request: Request) -> ScanDisposableKeysResponse:
    timeline = await _timeline(api, request)
    layer = _find(timeline, request)
    if layer is None:
        raise unknown_layer(request.path_params["layer_name"])
    disposable, kept = await timeline.read_layer(layer, lambda reader: reader.scan_disposable(timeline.shard))
    return ScanDisposableKeysResponse(disposable, kept)


_LAYER = TIMELINE + "/layer/{layer_name}"

ENDPOINTS = [
    Endpoint("GET", TIMELINE + "/layer", layer_map),
    Endpoint("GET", _LAYER, download),
    Endpoint("DELETE", _LAYER, evict),
    Endpoint("POST", _LAYER + "/scan_disposable_keys", scan_disposable_keys),
]
