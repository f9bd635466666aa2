"""Moving shards because somebody asked for it."""

from __future__ import annotations

import asyncio
import logging

from reattach.api.controller import MigrationConfig, TenantShardMigrateRequest
from reattach.api.ids import NodeId, TenantShardId
from reattach.runtime.errors import ApiError, BadRequest, PreconditionFailed
from reattach.runtime.humantime import parse_duration
from reattach.storage_controller.background import Background
from reattach.storage_controller.core import scheduler
from reattach.storage_controller.core.model import Intent, Shard, WarmUp
from reattach.storage_controller.locations import ReconcileError
from reattach.storage_controller.metrics import Metrics
from reattach.storage_controller.pageserver_client import PageserverClient, PageserverError
from reattach.storage_controller.reconciler import Reconciler, Waiter
from reattach.storage_controller.state import State
from reattach.storage_controller.tenants import RECONCILE_TIMEOUT, Tenants

log = logging.getLogger(__name__)

_POLL = 0.25


class Moving:
    """Migrations: immediate ones, and graceful ones that cut over when a secondary is warm."""

    def __init__(
        self,
        state: State,
        tenants: Tenants,
        reconciler: Reconciler,
        client: PageserverClient,
        background: Background,
        metrics: Metrics,
    ) -> None:
        self._state = state
        self._tenants = tenants
        self._reconciler = reconciler
        self._client = client
        self._background = background
        self._metrics = metrics

    async def migrate(self, shard_id: TenantShardId, request: TenantShardMigrateRequest) -> None:
        """Raises BadRequest, NotFound, PreconditionFailed; Timeout or InternalError for the reconcile."""
        config = request.migration_config
        shard = self._check(shard_id, request)
        shard.warm_up = _warm_up(config)
        waiter: Waiter | None
        if shard.intent.attached == request.node_id:
            shard.preferred_node = None
            waiter = self._reconciler.request(shard)
        elif config.prewarm:
            waiter = self._prepare(shard, request.node_id)
        else:
            waiter = self._cut_over(shard, request.node_id)
        await self._tenants.wait_for([waiter], RECONCILE_TIMEOUT)

    def _check(self, shard_id: TenantShardId, request: TenantShardMigrateRequest) -> Shard:
        forced = request.migration_config.override_scheduler
        node = self._state.nodes.get(request.node_id)
        if node is None:
            raise BadRequest(f"Node {request.node_id} not found")
        if not node.is_available:
            if not forced:
                raise PreconditionFailed(f"Node {node} is unavailable")
            log.info("Forcibly migrating to unavailable node %s", node)
        shard = self._tenants.shard(shard_id)
        if not shard.policy.is_attached:
            raise BadRequest(f"Cannot migrate a tenant that has policy {shard.policy}")
        better = scheduler.better_node(
            self._state.candidates(), self._state.preferences(shard), request.node_id
        )
        if better is not None and not forced:
            raise PreconditionFailed("Migration to a worse-scoring node")
        origin = shard.intent.attached
        if request.origin_node_id not in (None, origin):
            raise PreconditionFailed(
                f"Migration expected to originate from {request.origin_node_id} but shard is on {origin}"
            )
        return shard

    def _cut_over(self, shard: Shard, node: NodeId) -> Waiter | None:
        old = shard.intent
        # The old place comes first among the secondaries: it is warm.
        secondary = [n for n in (old.attached, *old.secondary) if n is not None and n != node]
        log.info("Migrating %s from node %s to node %s", shard.id, old.attached, node)
        shard.intent = Intent(node, tuple(secondary[: shard.policy.secondaries]))
        shard.preferred_node = None
        return self._reconciler.request(shard, interrupt=True)

    def _prepare(self, shard: Shard, node: NodeId) -> Waiter | None:
        shard.preferred_node = node
        if node not in shard.intent.secondary:
            shard.intent = Intent(shard.intent.attached, (*shard.intent.secondary, node))
        self._background.spawn(self._cut_over_when_warm(shard, node), f"graceful migration of {shard.id}")
        return self._reconciler.request(shard)

    async def _cut_over_when_warm(self, shard: Shard, node_id: NodeId) -> None:
        """Gives up if anybody wants the shard elsewhere meanwhile."""
        while shard.preferred_node == node_id and self._state.shard(shard.id) is shard:
            node = self._state.nodes.get(node_id)
            if node is not None and node.is_available and not self._reconciler.is_running(shard.id):
                try:
                    if await self._client.secondary_download(node, shard.id, wait=1.0):
                        break
                except (PageserverError, ReconcileError, ApiError) as e:
                    log.info(
                        "Skipping migration of %s to node %s because secondary isn't ready: %s",
                        shard.id,
                        node_id,
                        e,
                    )
            await asyncio.sleep(_POLL)
        if shard.preferred_node == node_id and self._state.shard(shard.id) is shard:
            self._metrics.schedule_optimization.inc()
            self._cut_over(shard, node_id)


def _warm_up(config: MigrationConfig) -> WarmUp:
    default = WarmUp()

    def seconds(text: str | None, otherwise: float) -> float:
        try:
            return otherwise if text is None else parse_duration(text)
        except ValueError as e:
            raise BadRequest(str(e)) from e

    return WarmUp(
        seconds(config.secondary_warmup_timeout, default.total),
        seconds(config.secondary_download_request_timeout, default.request),
    )
