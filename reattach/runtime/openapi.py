"""The OpenAPI description of a service, made of its routes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from reattach import __version__
from reattach.api.schemas import PATH_PARTS, SCHEMAS
from reattach.runtime.http import Route, json_response
from reattach.runtime.json_limits import MAX_DEPTH

PATH = "/openapi.json"

_PART = re.compile(r"\{(\w+)(?::path)?\}")
_EVERYWHERE = (
    "Of every body: whole numbers are written without a fraction and have at most 64 bits, no text has "
    f"a NUL, and nothing is nested deeper than {MAX_DEPTH} levels."
)
_ERROR = {
    "description": "An error: what was wrong.",
    "content": {
        "application/json": {
            "schema": {"type": "object", "properties": {"msg": {"type": "string"}}, "required": ["msg"]}
        }
    },
}


def described(title: str, routes: Sequence[Route], *also_at: str) -> list[Route]:
    """The routes, and one more that answers their description, itself included."""
    description: dict[str, Any] = {}

    async def answer(_: Request) -> Response:
        return json_response(description)

    everything = [Route("GET", path, answer) for path in (PATH, *also_at)] + list(routes)
    description |= describe(title, everything)
    return everything


def describe(title: str, routes: Sequence[Route]) -> dict[str, Any]:
    """An OpenAPI 3.1 document."""
    bodies = [route.body for route in routes if route.body is not None]
    found, components = msgspec.json.schema_components(
        bodies, schema_hook=_schema, ref_template="#/components/schemas/{name}"
    )
    schemas = iter(found)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = paths.setdefault(_PART.sub(r"{\1}", route.path), {})
        body = None if route.body is None else next(schemas)
        path[route.method.lower()] = _operation(route, body)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__, "description": _EVERYWHERE},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _schema(type_: type) -> dict[str, Any]:
    if type_ is object:
        return {"description": "Any value."}
    return dict(SCHEMAS[type_])


def _operation(route: Route, body: dict[str, Any] | None) -> dict[str, Any]:
    is_public = route.access == "everybody"
    operation: dict[str, Any] = {
        "description": f"For {route.access}.",
        "security": [] if is_public else [{"token": []}],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": PATH_PARTS[name]}
            for name in _PART.findall(route.path)
        ]
        + [{"name": query.name, "in": "query", "schema": dict(query.schema)} for query in route.query],
        "responses": {
            "2XX": {"description": "Done, or accepted."},
            "304": {"description": "There was nothing to do."},
            "default": _ERROR,
        },
    }
    if body is not None:
        content = {"application/json": {"schema": body}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation
