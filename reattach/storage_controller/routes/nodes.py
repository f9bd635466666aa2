"""Pageservers."""

from __future__ import annotations

from starlette.requests import Request

from reattach.api.controller import NodeConfigureRequest, NodeShard, NodeShardResponse
from reattach.api.ids import NodeId
from reattach.api.location import LocationConfigMode
from reattach.api.upcall import NodeRegisterRequest
from reattach.runtime.auth import Scope
from reattach.runtime.errors import BadRequest
from reattach.runtime.http import parse_whole, path_param
from reattach.storage_controller.controller import Controller
from reattach.storage_controller.routes.guard import RouteSpec, unsupported


def _node_id(request: Request) -> NodeId:
    return NodeId(path_param(request, "node_id", parse_whole))


async def register(controller: Controller, _: Request, body: NodeRegisterRequest) -> object:
    await controller.pageservers.register(body)
    return None


async def list_all(controller: Controller, _: Request) -> object:
    return [node.describe() for _, node in sorted(controller.state.nodes.items())]


async def describe(controller: Controller, request: Request) -> object:
    return controller.pageservers.get(_node_id(request)).describe()


async def configure(controller: Controller, request: Request, body: NodeConfigureRequest) -> object:
    if body.node_id != _node_id(request):
        raise BadRequest("Path and body node_id differ")
    await controller.pageservers.configure(body)
    return None


async def shards(controller: Controller, request: Request) -> object:
    node = controller.pageservers.get(_node_id(request)).id
    found = []
    for shard in sorted(controller.state.shards_on(node), key=lambda s: s.id):
        observed = shard.observed.get(node)
        found.append(
            NodeShard(
                shard.id,
                None if observed is None else observed.mode is LocationConfigMode.SECONDARY,
                node in shard.intent.secondary if node in shard.intent.nodes else None,
            )
        )
    return NodeShardResponse(node, found)


async def drop(controller: Controller, request: Request) -> object:
    await controller.pageservers.drop(_node_id(request))
    return None


_DRAIN_AND_FILL = [
    RouteSpec(method, f"/control/v1/node/{{node_id}}/{operation}", Scope.INFRA, unsupported)
    for method in ("PUT", "DELETE")
    for operation in ("drain", "fill")
]

ROUTES = [
    RouteSpec("POST", "/control/v1/node", Scope.INFRA, register),
    RouteSpec("GET", "/control/v1/node", Scope.INFRA, list_all),
    RouteSpec("GET", "/control/v1/node/{node_id}", Scope.INFRA, describe),
    RouteSpec("PUT", "/control/v1/node/{node_id}/config", Scope.ADMIN, configure),
    RouteSpec("GET", "/control/v1/node/{node_id}/shards", Scope.ADMIN, shards),
    RouteSpec("DELETE", "/control/v1/node/{node_id}", Scope.ADMIN, drop),
    RouteSpec("PUT", "/control/v1/node/{node_id}/delete", Scope.ADMIN, unsupported),
    RouteSpec("DELETE", "/control/v1/node/{node_id}/delete", Scope.INFRA, unsupported),
    RouteSpec("POST", "/debug/v1/node/{node_id}/drop", Scope.ADMIN, drop),
    *_DRAIN_AND_FILL,
]
