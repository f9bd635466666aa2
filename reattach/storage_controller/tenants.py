"""Creating, describing, placing and deleting tenants."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from reattach.api.controller import (
    DETACHED,
    NodeAvailability,
    PlacementPolicy,
    ShardSchedulingPolicy,
    TenantCreateRequest,
    TenantCreateResponse,
    TenantCreateResponseShard,
    TenantPolicyRequest,
)
from reattach.api.ids import NodeId, TenantId, TenantShardId
from reattach.runtime.errors import BadRequest, Conflict, InternalError, Timeout
from reattach.storage_controller.core import scheduler
from reattach.storage_controller.core.model import Shard
from reattach.storage_controller.core.scheduler import ScheduleError
from reattach.storage_controller.db import shards
from reattach.storage_controller.db.database import Database
from reattach.storage_controller.owed_deletions import OwedDeletions
from reattach.storage_controller.pageserver_client import PageserverClient, PageserverError
from reattach.storage_controller.reconciler import Reconciler, Waiter
from reattach.storage_controller.state import State

log = logging.getLogger(__name__)

RECONCILE_TIMEOUT = 30.0
_POLL = 0.05


class Tenants:
    """Everything here writes the database, then the memory, then lets the reconciler act."""

    def __init__(
        self,
        db: Database,
        state: State,
        reconciler: Reconciler,
        client: PageserverClient,
        owed: OwedDeletions,
    ) -> None:
        self._db = db
        self._state = state
        self._reconciler = reconciler
        self._client = client
        self._owed = owed

    def shards_of(self, tenant: TenantId) -> list[Shard]:
        """Raises NotFound."""
        found = self._state.shards_of(tenant)
        if not found:
            raise self._state.missing(tenant, f"Tenant {tenant} not found")
        return found

    def shard(self, shard_id: TenantShardId) -> Shard:
        """Raises NotFound."""
        found = self._state.shard(shard_id)
        if found is None:
            raise self._state.missing(shard_id.tenant_id, "Tenant shard not found")
        return found

    async def create(self, request: TenantCreateRequest) -> TenantCreateResponse:
        """Idempotent. Raises Conflict if the tenant has another number of shards or no node can take it."""
        if request.new_tenant_id.shard_count:
            raise BadRequest(
                "Attempted to create a specific shard, this API is for creating the whole tenant"
            )
        tenant = request.new_tenant_id.tenant_id
        new = self._new_shards(tenant, request)
        present = await shards.insert_tenant(self._db, new)
        if present:
            if len(present) != len(new) or present[0].id.shard_count != new[0].id.shard_count:
                raise Conflict(f"Tenant {tenant} already exists with a different shard count")
            log.info("Tenant %s already exists", tenant)
            created = self._state.shards_of(tenant) or self._adopt(present)
        else:
            created = self._adopt(new)
        unplaced = self._state.schedule_where_possible(s for s in created if s.needs_schedule)
        answer = self._create_response(request, created)
        waiters = [self._reconciler.request(shard) for shard in created]
        if unplaced:
            raise Conflict(f"Failed to schedule shard(s): {unplaced[0].last_error}")
        try:
            await self.wait_for(waiters, RECONCILE_TIMEOUT)
        except (Timeout, InternalError) as e:
            log.warning("Tenant %s was created but its first reconcile failed: %s", tenant, e)
        return answer

    def _new_shards(self, tenant: TenantId, request: TenantCreateRequest) -> list[Shard]:
        parameters, policy = request.shard_parameters, request.placement_policy
        generation = request.generation
        if generation is None and policy.is_attached:
            generation = 0
        zone = self.home_zone()
        return [
            Shard(
                id=TenantShardId(tenant, number, parameters.count),
                stripe_size=parameters.stripe_size,
                generation=generation,
                generation_node=None,
                policy=policy,
                config=request.config,
                preferred_az=zone,
            )
            for number in range(max(parameters.count, 1))
        ]

    def home_zone(self) -> str | None:
        """Where a new tenant is at home."""
        zones = {node.id: node.availability_zone for node in self._state.nodes.values()}
        return scheduler.home_zone(zones, (shard.preferred_az for shard in self._state.shards()))

    def _adopt(self, new: Sequence[Shard]) -> list[Shard]:
        for shard in new:
            if self._state.shard(shard.id) is None:
                self._state.add(shard)
        return self._state.shards_of(new[0].id.tenant_id)

    @staticmethod
    def _create_response(request: TenantCreateRequest, created: Sequence[Shard]) -> TenantCreateResponse:
        return TenantCreateResponse(
            [
                TenantCreateResponseShard(s.id, s.intent.attached, s.generation or 0)
                for s in created
                if s.intent.attached is not None
            ]
        )

    async def wait_for(self, waiters: Sequence[Waiter | None], timeout: float) -> None:
        """Raises Timeout, or InternalError if a reconcile failed."""
        pending = [waiter for waiter in waiters if waiter is not None]
        if not pending:
            return
        done, late = await asyncio.wait(pending, timeout=timeout)
        for waiter in done:
            if (error := waiter.exception()) is not None:
                raise InternalError(f"Reconcile error: {error}") from error
        if late:
            raise Timeout(f"timed out waiting for {len(late)} reconciles")

    async def update_policy(self, tenant: TenantId, request: TenantPolicyRequest) -> list[Waiter | None]:
        """Raises NotFound. The reconciles that it starts may be awaited or not."""
        found = self.shards_of(tenant)
        scheduling = request.scheduling
        if request.placement is not None and not request.placement.is_attached and scheduling is None:
            # A tenant that is being taken away must not be kept by a pause that was meant for placing it.
            scheduling = ShardSchedulingPolicy.ACTIVE
        await shards.update_tenant(self._db, tenant, policy=request.placement, scheduling=scheduling)
        for shard in found:
            if scheduling is not None and shard.scheduling is not scheduling:
                log.info("Updated scheduling policy to %s: %s", scheduling, shard.id)
                shard.scheduling = scheduling
        return self.place(found, request.placement)

    def place(self, found: Sequence[Shard], policy: PlacementPolicy | None) -> list[Waiter | None]:
        """Follows a recorded policy (None: the present one) in memory, and lets the reconciler act."""
        if policy is not None:
            for shard in found:
                if shard.policy != policy:
                    log.info("Updated placement policy to %s: %s", policy, shard.id)
                shard.policy = policy
                if not policy.is_attached:
                    shard.generation_node = None
                    shard.preferred_node = None
        self._state.schedule_where_possible(found)
        return [self._reconciler.request(shard, interrupt=policy is not None) for shard in found]

    async def update_config(self, tenant: TenantId, changes: dict[str, Any], *, patch: bool) -> None:
        """patch: keep what is not named, remove what is null. Raises NotFound."""
        found = self.shards_of(tenant)
        config = {**(found[0].config if patch else {}), **changes}
        config = {key: value for key, value in config.items() if value is not None}
        await shards.update_tenant(self._db, tenant, config=config)
        for shard in found:
            shard.config = config
        waiters = [self._reconciler.request(shard) for shard in found]
        try:
            await self.wait_for(waiters, RECONCILE_TIMEOUT)
        except (Timeout, InternalError) as e:
            log.warning("Accepted configuration update but reconciliation failed: %s: %s", tenant, e)

    async def delete(self, tenant: TenantId) -> None:
        """Detaches the tenant, removes its objects, then its records. Raises NotFound."""
        found = self.shards_of(tenant)
        silent = self._owed.silent_nodes()
        await self.update_policy(tenant, TenantPolicyRequest(placement=DETACHED))
        await self._detach(found)
        node = next((node for node in self._state.nodes.values() if node.is_available), None)
        if node is None:
            raise Conflict(f"Scheduling error: {ScheduleError('No pageservers found')}")
        try:
            await self._client.delete_tenant(node, tenant)
        except PageserverError as e:
            raise InternalError(str(e)) from e
        await self.forget(tenant, found, owed_by=silent)
        for node_id in silent:
            self._owed.start(node_id)

    async def _detach(self, found: Sequence[Shard]) -> None:
        """Returns when no node writes for the shards any more, except ones that are given up as offline.

        A node that has just started may be attaching them, but is told nothing before it serves. Raises like
        `wait_for`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + RECONCILE_TIMEOUT
        while True:
            waiters = [self._reconciler.request(shard) for shard in found]
            await self.wait_for(waiters, max(deadline - loop.time(), 0))
            arriving = {
                node
                for shard in found
                for node in shard.observed
                if node in self._state.nodes
                and self._state.nodes[node].availability is NodeAvailability.WARMING_UP
            }
            if not arriving:
                return
            if loop.time() >= deadline:
                names = ", ".join(map(str, sorted(arriving)))
                raise Timeout(f"node {names} is warming up and may have the tenant attached")
            await asyncio.sleep(_POLL)

    async def drop(self, tenant: TenantId) -> None:
        """Forgets the tenant without asking any pageserver. Raises NotFound."""
        await self.forget(tenant, self.shards_of(tenant))

    async def forget(
        self, tenant: TenantId, found: Sequence[Shard], *, owed_by: Sequence[NodeId] = ()
    ) -> None:
        for shard in found:
            await self._reconciler.forget(shard.id)
        await shards.delete_tenant(self._db, tenant, owed_by)
        self._state.remove_tenant(tenant)
        for shard in found:
            self._reconciler.removed(shard.id)
