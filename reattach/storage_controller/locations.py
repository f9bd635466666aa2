"""Changing a shard's locations, one step of the plan at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from reattach.api.controller_points import Point
from reattach.api.ids import NodeId, TenantShardId
from reattach.api.location import LocationConfig, LocationConfigMode
from reattach.runtime.failpoints import failpoints
from reattach.runtime.tasks import shielded, started
from reattach.storage_controller.compute_hook import ComputeHook
from reattach.storage_controller.core import reconcile_plan as plan
from reattach.storage_controller.core.model import Node, Shard
from reattach.storage_controller.db import shards
from reattach.storage_controller.db.database import Database
from reattach.storage_controller.pageserver_client import PageserverClient, PageserverError
from reattach.storage_controller.state import State

log = logging.getLogger(__name__)


class ReconcileError(Exception):
    """A shard could not be brought to its intent now. The text says why."""


LiveMigrate = Callable[["Locations", Shard, NodeId, NodeId], Awaitable[None]]
"""Moves a shard from the first node to the second, out of the steps that `Locations` has."""


class Locations:
    """Applies steps. Raises ReconcileError, PageserverError, ShardNotAttachable, DatabaseUnavailable.

    Until a pageserver has confirmed a change, the shard's observed location there counts as unknown; so a
    step may be cancelled, or the process killed, at any point.
    """

    def __init__(
        self,
        db: Database,
        state: State,
        client: PageserverClient,
        compute: ComputeHook,
        live_migrate: LiveMigrate,
    ) -> None:
        self._db = db
        self._state = state
        self.client = client
        self.compute = compute
        self._live_migrate = live_migrate
        self._issuing: dict[TenantShardId, asyncio.Lock] = {}

    def forget(self, shard: TenantShardId) -> None:
        """The shard is gone."""
        self._issuing.pop(shard, None)

    def node(self, node: NodeId) -> Node:
        """Raises ReconcileError unless the node is available."""
        found = self._state.nodes.get(node)
        if found is None or not found.is_available:
            raise ReconcileError(f"node {node} is unavailable")
        return found

    async def refresh(self, shard: Shard) -> None:
        """Reads the shard's generation anew: what was issued may have been recorded without our noticing."""
        async with self._lock(shard):
            issued = (await shards.issued(self._db, [shard.id])).get(shard.id)
            if issued is None:
                raise ReconcileError(f"shard {shard.id} is not recorded")
            shard.generation, shard.generation_node = issued.generation, issued.node

    async def apply(self, shard: Shard, step: plan.Step) -> None:
        match step:
            case plan.Query(node):
                await self._query(shard, node)
            case plan.Attach(node, new_generation):
                await self._attach(shard, node, new_generation)
            case plan.MakeSecondary(node):
                await self.put(shard, node, plan.secondary_location(shard))
            case plan.Detach(node):
                await self.put(shard, node, plan.detached_location(shard))
            case plan.LiveMigrate(origin, destination):
                await self._live_migrate(self, shard, origin, destination)
            case plan.NotifyCompute():
                await self.notify_compute(shard)

    async def epilogue(self) -> None:
        if await failpoints.hit(Point.RECONCILER_EPILOGUE) is not None:
            raise ReconcileError(f"failpoint {Point.RECONCILER_EPILOGUE}")

    async def put(
        self, shard: Shard, node: NodeId, location: LocationConfig, *, flush_ms: int | None = None
    ) -> None:
        """Has `node` take on the location."""
        shard.observed[node] = None
        lazy = location.mode is LocationConfigMode.ATTACHED_SINGLE
        await self.client.configure_location(
            self.node(node), shard.id, location, flush_ms=flush_ms, lazy=lazy
        )
        if location.mode is LocationConfigMode.DETACHED:
            shard.observed.pop(node, None)
        else:
            shard.observed[node] = location

    async def issue_generation(self, shard: Shard, node: NodeId) -> int:
        """Records the next generation, for `node`, before anybody can use it."""
        if await failpoints.hit(Point.PRE_INCREMENT_GENERATION) is not None:
            raise ReconcileError(f"failpoint {Point.PRE_INCREMENT_GENERATION}")
        # Whoever is cancelled meanwhile must not leave the memory behind the database.
        return await shielded(started(self._issue(shard, node)))

    async def _issue(self, shard: Shard, node: NodeId) -> int:
        async with self._lock(shard):
            generation = await shards.increment_generation(self._db, shard.id, node)
            shard.generation, shard.generation_node = generation, node
            return generation

    async def notify_compute(self, shard: Shard) -> None:
        """Raises ReconcileError if the control plane did not take it."""
        if not await self.compute.notify(self._state.shards_of(shard.id.tenant_id)):
            raise ReconcileError(
                f"Failed to notify compute of attached pageserver {shard.intent.attached}: {shard.id}"
            )
        shard.notify_compute = False

    async def _query(self, shard: Shard, node: NodeId) -> None:
        try:
            location = await self.client.location(self.node(node), shard.id)
        except PageserverError as e:
            if e.status != 404:
                raise
            shard.observed.pop(node, None)
            return
        if location is None:
            raise ReconcileError(f"node {node} is changing its location of {shard.id}")
        shard.observed[node] = location

    async def _attach(self, shard: Shard, node: NodeId, new_generation: bool) -> None:
        self.node(node)
        if new_generation:
            generation = await self.issue_generation(shard, node)
            shard.notify_compute = self.compute.is_enabled
        else:
            assert shard.generation is not None
            generation = shard.generation
        wanted = plan.attached_location(shard, generation, LocationConfigMode.ATTACHED_SINGLE)
        log.info("Observed configuration requires update: %s -> %s", shard.observed.get(node), wanted)
        await self.put(shard, node, wanted)

    def _lock(self, shard: Shard) -> asyncio.Lock:
        return self._issuing.setdefault(shard.id, asyncio.Lock())
