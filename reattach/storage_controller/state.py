"""What the controller holds in memory: a copy of the database, and what it knows of the pageservers."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator

from reattach.api.controller import ShardSchedulingPolicy
from reattach.api.ids import NodeId, ShardIndex, TenantId, TenantShardId
from reattach.storage_controller.core import scheduler
from reattach.storage_controller.core.model import Node, Shard
from reattach.storage_controller.core.scheduler import ScheduleError

log = logging.getLogger(__name__)


class State:
    """Nodes and shards. Nothing here waits, so whoever holds no await sees it change by nobody else."""

    def __init__(self) -> None:
        self.nodes: dict[NodeId, Node] = {}
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
        return scheduler.candidates_of(self.nodes.values(), (s.intent for s in self.shards()))

    def schedule(self, shard: Shard) -> None:
        """Fits the shard's intent to its policy. Raises ScheduleError."""
        shard.intent = scheduler.schedule(
            shard.intent, shard.policy, self.candidates(), self.preferences(shard)
        )

    def schedule_where_possible(self, shards: Iterable[Shard]) -> list[Shard]:
        """Schedules those that may be; returns those that no node can take now."""
        failed = []
        for shard in shards:
            if shard.scheduling in (ShardSchedulingPolicy.PAUSE, ShardSchedulingPolicy.STOP):
                log.info("Scheduling is disabled by policy %s: %s", shard.scheduling, shard.id)
                continue
            try:
                self.schedule(shard)
            except ScheduleError as e:
                shard.last_error = str(e)
                failed.append(shard)
        return failed
