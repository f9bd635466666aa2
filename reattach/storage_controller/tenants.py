"""Creating, describing, placing and deleting tenants."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from reattach.api.controller import (
    DETACHED,
    SECONDARY,
    AttachHookRequest,
    InspectResponse,
    PlacementPolicy,
    ShardParameters,
    ShardSchedulingPolicy,
    TenantCreateRequest,
    TenantCreateResponse,
    TenantCreateResponseShard,
    TenantDescribeResponse,
    TenantDescribeResponseShard,
    TenantLocateResponse,
    TenantLocateResponseShard,
    TenantPolicyRequest,
)
from reattach.api.ids import TenantId, TenantShardId
from reattach.api.location import (
    LocationConfig,
    LocationConfigMode,
    TenantLocationConfigResponse,
    TenantShardLocation,
)
from reattach.api.shard import DEFAULT_STRIPE_SIZE
from reattach.runtime.errors import BadRequest, Conflict, InternalError, NotFound, Timeout
from reattach.storage_controller.core import reconcile_plan as plan
from reattach.storage_controller.core import scheduler
from reattach.storage_controller.core.model import NOWHERE, Intent, Shard
from reattach.storage_controller.core.scheduler import ScheduleError
from reattach.storage_controller.db import imports, shards
from reattach.storage_controller.db.database import Database
from reattach.storage_controller.pageserver_client import PageserverClient, PageserverError
from reattach.storage_controller.reconciler import Reconciler, Waiter
from reattach.storage_controller.state import State

log = logging.getLogger(__name__)

RECONCILE_TIMEOUT = 30.0


class Tenants:
    """Everything here writes the database, then the memory, then lets the reconciler act."""

    def __init__(self, db: Database, state: State, reconciler: Reconciler, client: PageserverClient) -> None:
        self._db = db
        self._state = state
        self._reconciler = reconciler
        self._client = client

    def shards_of(self, tenant: TenantId) -> list[Shard]:
        """Raises NotFound."""
        found = self._state.shards_of(tenant)
        if not found:
            raise NotFound(f"Tenant {tenant} not found")
        return found

    def shard(self, shard_id: TenantShardId) -> Shard:
        """Raises NotFound."""
        found = self._state.shard(shard_id)
        if found is None:
            raise NotFound("Tenant shard not found")
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
        zone = self._home_zone()
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

    def _home_zone(self) -> str | None:
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

    async def describe(self, tenant: TenantId) -> TenantDescribeResponse:
        found = self.shards_of(tenant)
        importing = await imports.importing_tenants(self._db, [tenant])
        return self._describe(found, tenant in importing)

    async def describe_all(self, start_after: TenantId | None, limit: int) -> list[TenantDescribeResponse]:
        chosen = [t for t in self._state.tenants if start_after is None or t > start_after][:limit]
        importing = await imports.importing_tenants(self._db, chosen)
        return [self._describe(self._state.shards_of(t), t in importing) for t in chosen]

    def _describe(self, found: Sequence[Shard], importing: bool) -> TenantDescribeResponse:
        first = found[0]
        return TenantDescribeResponse(
            first.id.tenant_id,
            [
                TenantDescribeResponseShard(
                    tenant_shard_id=s.id,
                    node_attached=s.intent.attached,
                    node_secondary=list(s.intent.secondary),
                    last_error=s.last_error,
                    is_reconciling=self._reconciler.is_running(s.id),
                    is_pending_compute_notification=s.notify_compute,
                    is_splitting=False,
                    is_importing=importing,
                    scheduling_policy=s.scheduling,
                    preferred_az_id=s.preferred_az,
                )
                for s in found
            ],
            first.stripe_size,
            first.policy,
            first.config,
        )

    async def dump(self) -> list[dict[str, Any]]:
        """Everything that is known of every shard."""
        importing = await imports.importing_tenants(self._db, self._state.tenants)
        return [
            {
                "tenant_shard_id": str(s.id),
                "shard": {
                    "number": s.id.shard_number,
                    "count": s.id.shard_count,
                    "stripe_size": s.stripe_size,
                },
                "generation": s.generation,
                "intent": {
                    "attached": s.intent.attached,
                    "secondary": list(s.intent.secondary),
                    "preferred_az_id": s.preferred_az,
                },
                "observed": {"locations": {str(n): {"conf": conf} for n, conf in sorted(s.observed.items())}},
                "policy": s.policy,
                "config": s.config,
                "importing": "Importing" if s.id.tenant_id in importing else "Idle",
                "scheduling_policy": s.scheduling,
                "preferred_node": s.preferred_node,
                "splitting": "Idle",
                "last_error": s.last_error,
            }
            for s in sorted(self._state.shards(), key=lambda shard: shard.id)
        ]

    def locate(self, tenant: TenantId) -> TenantLocateResponse:
        found = self.shards_of(tenant)
        located = []
        for shard in found:
            node = None if shard.intent.attached is None else self._state.nodes.get(shard.intent.attached)
            if node is None:
                raise BadRequest("Cannot locate a tenant that is not attached")
            a = node.address
            located.append(
                TenantLocateResponseShard(
                    shard_id=shard.id,
                    node_id=node.id,
                    listen_pg_addr=a.listen_pg_addr,
                    listen_pg_port=a.listen_pg_port,
                    listen_grpc_addr=a.listen_grpc_addr,
                    listen_grpc_port=a.listen_grpc_port,
                    listen_http_addr=a.listen_http_addr,
                    listen_http_port=a.listen_http_port,
                    listen_https_port=a.listen_https_port,
                )
            )
        return TenantLocateResponse(located, ShardParameters(found[0].id.shard_count, found[0].stripe_size))

    def inspect(self, shard_id: TenantShardId) -> InspectResponse:
        shard = self._state.shard(shard_id)
        if shard is None or shard.intent.attached is None or shard.generation is None:
            return InspectResponse(None)
        return InspectResponse((shard.generation, shard.intent.attached))

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
        return self._place(found, request.placement)

    def _place(self, found: Sequence[Shard], policy: PlacementPolicy | None) -> list[Waiter | None]:
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

    async def location_config(
        self, shard_id: TenantShardId, request: LocationConfig
    ) -> TenantLocationConfigResponse:
        """What a client of one big pageserver would say, as policy. Creates the tenant if need be."""
        if shard_id.shard_count:
            raise BadRequest("This API is for importing single-sharded or unsharded tenants")
        policy = self._policy_of(request.mode)
        tenant = shard_id.tenant_id
        if not self._state.shards_of(tenant):
            count, stripe = request.shard_count, request.shard_stripe_size or DEFAULT_STRIPE_SIZE
            await self.create(
                TenantCreateRequest(
                    TenantShardId.unsharded(tenant),
                    request.generation,
                    ShardParameters(count, stripe),
                    policy,
                    dict(request.tenant_conf),
                )
            )
        else:
            await self._reconfigure(tenant, policy, request)
        found = self.shards_of(tenant)
        waiters = [self._reconciler.request(shard) for shard in found]
        try:
            await self.wait_for(waiters, 5.0)
        except (Timeout, InternalError) as e:
            log.warning("Accepted configuration update but reconciliation failed: %s: %s", tenant, e)
        return TenantLocationConfigResponse(
            [
                TenantShardLocation(shard.id, shard.intent.attached)
                for shard in found
                if shard.intent.attached is not None
            ],
            found[0].stripe_size if len(found) > 1 else None,
        )

    async def _reconfigure(self, tenant: TenantId, policy: PlacementPolicy, request: LocationConfig) -> None:
        found = self.shards_of(tenant)
        config = dict(request.tenant_conf)
        await shards.update_tenant(
            self._db,
            tenant,
            policy=policy,
            scheduling=None if policy.is_attached else ShardSchedulingPolicy.ACTIVE,
            config=config,
            generation=request.generation,
        )
        for shard in found:
            shard.config = config
            if shard.generation is None:
                shard.generation = request.generation
            if not policy.is_attached:
                shard.scheduling = ShardSchedulingPolicy.ACTIVE
        self._place(found, policy)

    def _policy_of(self, mode: LocationConfigMode) -> PlacementPolicy:
        match mode:
            case LocationConfigMode.DETACHED:
                return DETACHED
            case LocationConfigMode.SECONDARY:
                return SECONDARY
        return PlacementPolicy.attached(1 if len(self._state.nodes) > 1 else 0)

    async def attach_hook(self, request: AttachHookRequest) -> int | None:
        """Moves an attachment in the database only: whoever asks will tell the pageserver himself."""
        shard = self._state.shard(request.tenant_shard_id)
        if shard is None:
            shard = Shard(
                id=request.tenant_shard_id,
                stripe_size=DEFAULT_STRIPE_SIZE,
                generation=None,
                generation_node=None,
                policy=PlacementPolicy.attached(),
                config={},
                preferred_az=self._home_zone(),
            )
        if request.config is not None:
            shard.config = request.config
        shard.policy = DETACHED if request.node_id is None else PlacementPolicy.attached()
        await self._reconciler.forget(shard.id)
        try:
            issued = await shards.attach_hook(self._db, shard, request.node_id, request.generation_override)
        except shards.ShardNotAttachable as e:
            raise NotFound(str(e)) from e
        self._state.add(shard)
        shard.generation, shard.generation_node = issued.generation, issued.node
        shard.preferred_node = None
        if request.node_id is None:
            shard.intent, shard.observed = NOWHERE, {}
            return None
        shard.intent = Intent(request.node_id)
        assert shard.generation is not None
        # Others that still hold an older generation are fenced; only the asker knows what to do with them.
        shard.observed = {
            request.node_id: plan.attached_location(
                shard, shard.generation, LocationConfigMode.ATTACHED_SINGLE
            )
        }
        return shard.generation

    async def delete(self, tenant: TenantId) -> None:
        """Detaches the tenant, removes its objects, then its records. Raises NotFound."""
        found = self.shards_of(tenant)
        waiters = await self.update_policy(tenant, TenantPolicyRequest(placement=DETACHED))
        await self.wait_for(waiters, RECONCILE_TIMEOUT)
        node = next((node for node in self._state.nodes.values() if node.is_available), None)
        if node is None:
            raise Conflict(f"Scheduling error: {ScheduleError('No pageservers found')}")
        try:
            await self._client.delete_tenant(node, tenant)
        except PageserverError as e:
            raise InternalError(str(e)) from e
        await self.forget(tenant, found)

    async def drop(self, tenant: TenantId) -> None:
        """Forgets the tenant without asking any pageserver. Raises NotFound."""
        await self.forget(tenant, self.shards_of(tenant))

    async def forget(self, tenant: TenantId, found: Sequence[Shard]) -> None:
        for shard in found:
            await self._reconciler.forget(shard.id)
        await shards.delete_tenant(self._db, tenant)
        self._state.remove_tenant(tenant)
        for shard in found:
            self._reconciler.removed(shard.id)
