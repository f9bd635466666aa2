"""Tenants as clients see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reattach.api.controller import (
    InspectResponse,
    ShardParameters,
    TenantDescribeResponse,
    TenantDescribeResponseShard,
    TenantLocateResponse,
    TenantLocateResponseShard,
)
from reattach.api.ids import TenantId, TenantShardId
from reattach.runtime.errors import BadRequest
from reattach.storage_controller.core.model import Shard
from reattach.storage_controller.db import imports
from reattach.storage_controller.db.database import Database
from reattach.storage_controller.reconciler import Reconciler
from reattach.storage_controller.state import State
from reattach.storage_controller.tenants import Tenants


class TenantView:
    """Reads only. Whether a tenant has imports is asked of the database each time."""

    def __init__(self, db: Database, state: State, reconciler: Reconciler, tenants: Tenants) -> None:
        self._db = db
        self._state = state
        self._reconciler = reconciler
        self._tenants = tenants

    async def describe(self, tenant: TenantId) -> TenantDescribeResponse:
        found = self._tenants.shards_of(tenant)
        importing = await imports.importing_tenants(self._db, [tenant])
        return self._describe(found, tenant in importing)

    async def describe_all(self, start_after: TenantId | None, limit: int) -> list[TenantDescribeResponse]:
        chosen = [t for t in self._state.tenants if start_after is None or t > start_after][:limit]
        importing = await imports.importing_tenants(self._db, chosen)
        # Some may have gone meanwhile.
        present = [found for tenant in chosen if (found := self._state.shards_of(tenant))]
        return [self._describe(found, found[0].id.tenant_id in importing) for found in present]

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
        found = self._tenants.shards_of(tenant)
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
