"""Locations that clients ask for in a pageserver's words, or behind the scheduler's back."""

from __future__ import annotations

import logging

from reattach.api.controller import (
    DETACHED,
    SECONDARY,
    AttachHookRequest,
    PlacementPolicy,
    ShardParameters,
    ShardSchedulingPolicy,
    TenantCreateRequest,
)
from reattach.api.ids import TenantId, TenantShardId
from reattach.api.location import (
    LocationConfig,
    LocationConfigMode,
    TenantLocationConfigResponse,
    TenantShardLocation,
)
from reattach.api.numbers import MAX_GIVEN_GENERATION
from reattach.api.shard import DEFAULT_STRIPE_SIZE
from reattach.runtime.errors import BadRequest, InternalError, NotFound, Timeout
from reattach.storage_controller.core import reconcile_plan as plan
from reattach.storage_controller.core.model import NOWHERE, Intent, Shard
from reattach.storage_controller.db import shards
from reattach.storage_controller.db.database import Database
from reattach.storage_controller.reconciler import Reconciler
from reattach.storage_controller.state import State
from reattach.storage_controller.tenants import Tenants

log = logging.getLogger(__name__)


class TenantLocations:
    def __init__(self, db: Database, state: State, reconciler: Reconciler, tenants: Tenants) -> None:
        self._db = db
        self._state = state
        self._reconciler = reconciler
        self._tenants = tenants

    async def location_config(
        self, shard_id: TenantShardId, request: LocationConfig
    ) -> TenantLocationConfigResponse:
        """What a client of one big pageserver would say, as policy. Creates the tenant if need be."""
        if shard_id.shard_count:
            raise BadRequest("This API is for importing single-sharded or unsharded tenants")
        if (request.generation or 0) > MAX_GIVEN_GENERATION:
            raise BadRequest(f"generation {request.generation} leaves too few for those that follow")
        policy = self._policy_of(request.mode)
        tenant = shard_id.tenant_id
        if not self._state.shards_of(tenant):
            count, stripe = request.shard_count, request.shard_stripe_size or DEFAULT_STRIPE_SIZE
            await self._tenants.create(
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
        found = self._tenants.shards_of(tenant)
        waiters = [self._reconciler.request(shard) for shard in found]
        try:
            await self._tenants.wait_for(waiters, 5.0)
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
        found = self._tenants.shards_of(tenant)
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
        self._tenants.place(found, policy)

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
        if request.tenant_shard_id.tenant_id in self._state.left_out:
            raise self._state.missing(request.tenant_shard_id.tenant_id, "")
        if shard is None:
            shard = Shard(
                id=request.tenant_shard_id,
                stripe_size=DEFAULT_STRIPE_SIZE,
                generation=None,
                generation_node=None,
                policy=PlacementPolicy.attached(),
                config={},
                preferred_az=self._tenants.home_zone(),
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
