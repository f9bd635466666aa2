"""Values by key: one as JSON, many as bytes."""

from __future__ import annotations

import struct
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from reattach.api.key import Key, KeyRange
from reattach.api.lsn import Lsn
from reattach.pageserver.http.api import TIMELINE, Api, Endpoint, timeline_id
from reattach.pageserver.layers.image_layer_reader import ImageLayerReader
from reattach.pageserver.timeline.timeline import Timeline
from reattach.runtime.errors import BadRequest, InternalError
from reattach.runtime.http import Query

VALUES_LIMIT_BYTES = 8 * 1024 * 1024
"""About how much one answer of `values` holds."""

_FRAME = struct.Struct(">18sI")


KEY = {"type": "string", "pattern": "^[0-9a-fA-F]{36}$"}
LSN = Query("lsn", Lsn, {"type": "string", "pattern": "^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$"})
_KEY = Query("key", Key.parse, KEY)
_START = Query("start", Key.parse, KEY)
_END = Query("end", Key.parse, KEY)


def _required(parameter: Query[Key], request: Request) -> Key:
    key = parameter.of(request)
    if key is None:
        raise BadRequest(f"missing '{parameter.name}' query parameter")
    return key


async def _timeline_at(api: Api, request: Request) -> tuple[Timeline, Lsn]:
    lsn = LSN.of(request)
    timeline = (await api.attached(request)).active_timeline(timeline_id(request))
    if lsn is None:
        return timeline, timeline.last_record_lsn
    if lsn < timeline.metadata.latest_gc_cutoff_lsn:
        raise InternalError(
            f"tried to request a page version that was garbage collected. requested at {lsn} "
            f"gc cutoff {timeline.metadata.latest_gc_cutoff_lsn}"
        )
    return timeline, lsn


async def getpage(api: Api, request: Request) -> object:
    key = _required(_KEY, request)
    timeline, lsn = await _timeline_at(api, request)
    found = await timeline.get(key, lsn)
    page = list(found.value)
    return {
        "page": page,
        "layers_visited": 1,
        "delta_layers_visited": 0,
        "records": [],
        "img": [found.layer.lsn, page],
    }


async def touchpage(api: Api, request: Request) -> object:
    _required(_KEY, request)
    await _timeline_at(api, request)
    return None


async def values(api: Api, request: Request) -> Response:
    """The keys from `start` to before `end` that there are, each as 18 bytes key, u32be length, value.

    An addition of ours, for tests that compare whole relations. One answer comes from one layer and holds
    about VALUES_LIMIT_BYTES; the header `x-next-key` says where to go on, and is missing at the end.
    """
    keys = KeyRange(_required(_START, request), _required(_END, request))
    timeline, lsn = await _timeline_at(api, request)
    for layer in timeline.layers_for(keys, lsn):
        body, next_key = await timeline.read_layer(layer, partial(_collect, keys=keys))
        if next_key is None and layer.name.key_range.end < keys.end:
            next_key = layer.name.key_range.end
        if body or next_key is None:
            headers = {} if next_key is None else {"x-next-key": str(next_key)}
            return Response(body, media_type="application/octet-stream", headers=headers)
    return Response(b"", media_type="application/octet-stream")


def _collect(reader: ImageLayerReader, keys: KeyRange) -> tuple[bytes, Key | None]:
    """Frames up to the limit, and the first key that did not fit any more."""
    parts: list[bytes] = []
    size = 0
    for key, value in reader.values(keys):
        if size >= VALUES_LIMIT_BYTES:
            return b"".join(parts), key
        parts += (_FRAME.pack(key.to_bytes(), len(value)), value)
        size += _FRAME.size + len(value)
    return b"".join(parts), None


ENDPOINTS = [
    Endpoint("GET", TIMELINE + "/getpage", getpage, (_KEY, LSN)),
    Endpoint("GET", TIMELINE + "/touchpage", touchpage, (_KEY, LSN)),
    Endpoint("GET", TIMELINE + "/values", values, (_START, _END, LSN)),
]
