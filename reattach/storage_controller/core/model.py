"""Nodes and tenant shards as the controller holds them in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reattach.api.controller import (
    NodeAvailability,
    NodeDescribeResponse,
    NodeSchedulingPolicy,
    PlacementPolicy,
    ShardSchedulingPolicy,
)
from reattach.api.ids import NodeId, TenantShardId
from reattach.api.location import LocationConfig
from reattach.api.upcall import NodeRegisterRequest


@dataclass(slots=True)
class Node:
    """A pageserver. Times are of the event loop's clock, in seconds.

    epoch changes whenever it comes or goes: what was asked of it before is out of date then.
    """

    address: NodeRegisterRequest
    scheduling: NodeSchedulingPolicy = NodeSchedulingPolicy.ACTIVE
    availability: NodeAvailability = NodeAvailability.OFFLINE
    utilization_score: int = 0
    last_heard: float | None = None
    warming_up_since: float = 0.0
    epoch: int = 0

    @property
    def id(self) -> NodeId:
        return self.address.node_id

    @property
    def availability_zone(self) -> str:
        return self.address.availability_zone_id

    @property
    def is_available(self) -> bool:
        return self.availability is NodeAvailability.ACTIVE

    @property
    def may_schedule(self) -> bool:
        """Whether a location may be put here."""
        return self.is_available and self.scheduling in (
            NodeSchedulingPolicy.ACTIVE,
            NodeSchedulingPolicy.FILLING,
        )

    def __str__(self) -> str:
        return f"{self.id} ({self.address.listen_http_addr})"

    def describe(self) -> NodeDescribeResponse:
        a = self.address
        return NodeDescribeResponse(
            id=self.id,
            availability=self.availability,
            scheduling=self.scheduling,
            availability_zone_id=a.availability_zone_id,
            listen_http_addr=a.listen_http_addr,
            listen_http_port=a.listen_http_port,
            listen_https_port=a.listen_https_port,
            listen_pg_addr=a.listen_pg_addr,
            listen_pg_port=a.listen_pg_port,
            listen_grpc_addr=a.listen_grpc_addr,
            listen_grpc_port=a.listen_grpc_port,
        )


@dataclass(frozen=True, slots=True)
class Intent:
    """Where a shard's locations should be."""

    attached: NodeId | None = None
    secondary: tuple[NodeId, ...] = ()

    @property
    def nodes(self) -> frozenset[NodeId]:
        return frozenset(self.secondary) | ({self.attached} if self.attached is not None else frozenset())


NOWHERE = Intent()


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How long a migration waits for a secondary to download layers: in all, and per request. Seconds."""

    total: float = 300.0
    request: float = 20.0


@dataclass(slots=True)
class Shard:
    """A tenant shard.

    generation and generation_node follow the database, which is always written first.
    observed maps a node to the location it was last known to have, None where that is not known.
    preferred_node: where to move when a secondary there is warm.
    """

    id: TenantShardId
    stripe_size: int
    generation: int | None
    generation_node: NodeId | None
    policy: PlacementPolicy
    config: dict[str, Any]
    scheduling: ShardSchedulingPolicy = ShardSchedulingPolicy.ACTIVE
    preferred_az: str | None = None
    intent: Intent = NOWHERE
    observed: dict[NodeId, LocationConfig | None] = field(default_factory=dict)
    last_error: str = ""
    notify_compute: bool = False
    warm_up: WarmUp = WarmUp()
    preferred_node: NodeId | None = None

    @property
    def needs_schedule(self) -> bool:
        """Whether intent lacks a location that the policy wants."""
        if self.policy.is_attached:
            return self.intent.attached is None or len(self.intent.secondary) < self.policy.secondaries
        return len(self.intent.secondary) < self.policy.secondaries
