"""The HTTP API, a module per kind of resource."""

from __future__ import annotations

from reattach.runtime.http import Route
from reattach.storage_controller.controller import Controller
from reattach.storage_controller.routes import debug, health, nodes, tenants, timelines, upcalls
from reattach.storage_controller.routes.guard import guarded

SPECS = [spec for module in (upcalls, tenants, nodes, debug, timelines) for spec in module.ROUTES]
"""All but those of `health`. Earlier ones win."""


def all_routes(controller: Controller) -> list[Route]:
    """For `json_app`."""
    return [*health.routes(controller), *guarded(controller, SPECS)]
