"""What every route needs: the process, the ids in the path, and errors that clients understand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from starlette.requests import Request

from reattach.api.ids import TenantShardId, TimelineId
from reattach.pageserver.context import Context
from reattach.pageserver.layers.errors import LayerCorrupted
from reattach.pageserver.remote.storage import ObjectNotFound, RemoteError
from reattach.pageserver.remote.upload_queue import QueueStopped
from reattach.pageserver.scope import ScopeClosed
from reattach.pageserver.tenant.manager import TenantManager
from reattach.pageserver.tenant.shard import TenantShard
from reattach.pageserver.timeline.timeline import MissingKey
from reattach.runtime.errors import InternalError, NotFound, ShuttingDown, cause_chain
from reattach.runtime.http import Handler, path_param

log = logging.getLogger(__name__)

Route = tuple[str, str, Handler]

TENANT = "/v1/tenant/{tenant_shard_id}"
TIMELINE = TENANT + "/timeline/{timeline_id}"


@dataclass(frozen=True, slots=True)
class Api:
    """What handlers work on."""

    context: Context
    tenants: TenantManager
    evicting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def attached(self, request: Request) -> TenantShard:
        """The attached tenant shard of the path, active. Raises the ApiError that says why not."""
        shard = self.tenants.get_attached(shard_id(request))
        await shard.wait_active()
        return shard


def shard_id(request: Request) -> TenantShardId:
    """Raises BadRequest."""
    return path_param(request, "tenant_shard_id", TenantShardId.parse)


def timeline_id(request: Request) -> TimelineId:
    """Raises BadRequest."""
    return path_param(request, "timeline_id", TimelineId)


def routes_of(
    api: Api, table: Iterable[tuple[str, str, Callable[[Api, Request], Awaitable[object]]]]
) -> list[Route]:
    """Binds handlers to the process and translates what they raise."""
    return [(method, path, _bound(api, handler)) for method, path, handler in table]


def _bound(api: Api, handler: Callable[[Api, Request], Awaitable[object]]) -> Handler:
    async def bound(request: Request) -> object:
        try:
            return await handler(api, request)
        except (QueueStopped, ScopeClosed) as e:
            raise ShuttingDown from e
        except MissingKey as e:
            raise InternalError(str(e)) from e
        except (LayerCorrupted, ObjectNotFound, OSError, RemoteError) as e:
            raise InternalError(cause_chain(e)) from e

    return bound


def unknown_layer(name: str) -> NotFound:
    return NotFound(f"Layer {name} not found")
