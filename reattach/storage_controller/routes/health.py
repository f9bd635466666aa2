"""Whether the controller is well. Nobody needs a token to ask."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from reattach.runtime.http import Route, json_response
from reattach.storage_controller.controller import Controller


def routes(controller: Controller) -> list[Route]:
    async def status(_: Request) -> object:
        return None

    async def ready(_: Request) -> object:
        return json_response(None, 200 if controller.started.is_set() else 503)

    async def metrics(_: Request) -> object:
        controller.refresh_metrics()
        return Response(controller.metrics.text(), media_type="text/plain; version=0.0.4")

    return [
        Route("GET", "/status", status),
        Route("GET", "/live", ready),
        Route("GET", "/ready", ready),
        Route("GET", "/metrics", metrics),
    ]
