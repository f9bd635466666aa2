"""What the controller holds in memory: a copy of the database, and what it knows of the pageservers."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator

from reattach.api.controller import ShardSchedulingPolicy
from reattach.api.ids import NodeId, ShardIndex, TenantId, TenantShardId
from reattach.runtime.errors import ApiError, NotFound, ResourceUnavailable
from reattach.storage_controller.core import scheduler
from reattach.storage_controller.core.model import Node, Shard
from reattach.storage_controller.core.scheduler import ScheduleError
from reattach.storage_controller.db.rows import BadRow

log = logging.getLogger(__name__)


class State:
    """Nodes and shards. Nothing here waits, so whoever holds no await sees it change by nobody else."""

    def __init__(self) -> None:
        self.nodes: dict[NodeId, Node] = {}
        self.left_out: dict[TenantId, BadRow] = {}
        """Tenants that are recorded with a row that makes no sense. Nothing is done about them."""
        self._tenants: dict[TenantId, dict[ShardIndex, Shard]] = {}

    @property
    def tenants(self) -> list[TenantId]:
        """In order."""
        return sorted(self._tenants)

    def add(self, shard: Shard) -> None:
        self._tenants.setdefault(shard.id.tenant_id, {})[shard.id.shard_index] = shard

    def remove_tenant(self, tenant: TenantId) -> None:
        self._tenants.pop(tenant, None)

    def shard(self, shard: TenantShardId) -> Shard | None:
        return self._tenants.get(shard.tenant_id, {}).get(shard.shard_index)

    def is_recorded(self, shard: TenantShardId) -> bool:
        """Whether the database has it, or may have it."""
        return shard.tenant_id in self.left_out or self.shard(shard) is not None

    def missing(self, tenant: TenantId, text: str) -> ApiError:
        """Why there is nothing of `tenant`; `text` if there is none."""
        bad = self.left_out.get(tenant)
        if bad is not None:
            return ResourceUnavailable(f"Tenant {tenant} is left out: {bad.reason}")
        return NotFound(text)

    def shards_of(self, tenant: TenantId) -> list[Shard]:
        """In order; empty if the tenant is not known."""
        return sorted(self._tenants.get(tenant, {}).values(), key=lambda shard: shard.id)

    def shards(self) -> Iterator[Shard]:
        for tenant in self._tenants.values():
            yield from tenant.values()

    @property
    def available(self) -> frozenset[NodeId]:
        return frozenset(node.id for node in self.nodes.values() if node.is_available)

    def shards_on(self, node: NodeId) -> list[Shard]:
        """Shards that are, may be or should be on the node."""
        return [s for s in self.shards() if node in s.observed or node in s.intent.nodes]

    def preferences(self, shard: Shard) -> scheduler.Preferences:
        siblings = (s for s in self._tenants[shard.id.tenant_id].values() if s is not shard)
        affinity = Counter(node for s in siblings for node in s.intent.nodes)
        return scheduler.Preferences(shard.preferred_az, affinity)

    def candidates(self) -> list[scheduler.Candidate]:
        """The nodes, as scheduling sees them."""
        return scheduler.candidates_of(self.nodes.values(), self._attached())

    def _attached(self) -> Counter[NodeId | None]:
        return Counter(shard.intent.attached for shard in self.shards())

    def schedule_where_possible(self, shards: Iterable[Shard]) -> list[Shard]:
        """Fits intents to policies where scheduling is enabled; returns the shards that no node can take."""
        failed = []
        attached = self._attached()
        for shard in shards:
            if shard.scheduling in (ShardSchedulingPolicy.PAUSE, ShardSchedulingPolicy.STOP):
                log.info("Scheduling is disabled by policy %s: %s", shard.scheduling, shard.id)
                continue
            candidates = scheduler.candidates_of(self.nodes.values(), attached)
            before = shard.intent
            try:
                shard.intent = scheduler.schedule(before, shard.policy, candidates, self.preferences(shard))
            except ScheduleError as e:
                shard.last_error = str(e)
                failed.append(shard)
            attached[before.attached] -= 1
            attached[shard.intent.attached] += 1
        return failed
