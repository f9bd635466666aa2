"""What every route needs: the process, the ids in the path, and errors that clients understand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

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
from reattach.pageserver.utilization import UtilizationMeter
from reattach.runtime.errors import InternalError, NotFound, ShuttingDown, cause_chain
from reattach.runtime.http import Query, body_type, path_param

log = logging.getLogger(__name__)

TENANT = "/v1/tenant/{tenant_shard_id}"
TIMELINE = TENANT + "/timeline/{timeline_id}"


@dataclass(frozen=True)
class Api:
    """What handlers work on."""

    context: Context
    tenants: TenantManager
    evicting: asyncio.Lock = field(default_factory=asyncio.Lock)

    @cached_property
    def meter(self) -> UtilizationMeter:
        return UtilizationMeter(self.context.tenants_directory, self.context.config.eviction)

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


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route before it is bound to a process.

    handler: takes the Api, the request and, if it has a parameter of that name, the request's `body`.
    """

    method: str
    path: str
    handler: Callable[..., Awaitable[object]]
    query: tuple[Query[Any], ...] = ()

    @property
    def body(self) -> Any:
        """The type of its body, None if it takes none."""
        return body_type(self.handler)

    async def answer(self, api: Api, request: Request, *body: object) -> object:
        """What the handler answers; what it raises, as clients understand it."""
        try:
            return await self.handler(api, request, *body)
        except (QueueStopped, ScopeClosed) as e:
            raise ShuttingDown from e
        except MissingKey as e:
            raise InternalError(str(e)) from e
        except (LayerCorrupted, ObjectNotFound, OSError, RemoteError) as e:
            raise InternalError(cause_chain(e)) from e


def unknown_layer(name: str) -> NotFound:
    return NotFound(f"Layer {name} not found")
