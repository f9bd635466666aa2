"""Telling the control plane."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from reattach.api import codec
from reattach.api.controller_points import Call, after, before
from reattach.api.upcall import ImportCompleteRequest
from reattach.runtime.failpoints import failpoints
from reattach.runtime.http_client import HttpResponse, request_json

TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """The control plane's endpoints below `url`. Methods answer its response and raise TransportError."""

    url: str
    token: str | None
    tls: ssl.SSLContext | None

    async def import_complete(self, body: ImportCompleteRequest) -> HttpResponse:
        return await self._put("import_complete", body, Call.IMPORT_COMPLETE)

    async def notify_attach(self, body: object) -> HttpResponse:
        return await self._put("notify-attach", body, Call.NOTIFY_ATTACH)

    async def _put(self, endpoint: str, body: object, call: Call) -> HttpResponse:
        await failpoints.hit(before(call))
        answer = await request_json(
            "PUT",
            f"{self.url.rstrip('/')}/{endpoint}",
            body=codec.encode(body),
            token=self.token,
            timeout=TIMEOUT,
            tls=self.tls,
        )
        await failpoints.hit(after(call))
        return answer
