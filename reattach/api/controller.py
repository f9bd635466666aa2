"""Requests and answers of the storage controller's own API."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from reattach.api import codec
from reattach.api.ids import NodeId, ShardIndex, TenantId, TenantShardId, TimelineId
from reattach.api.import_status import ShardImportStatus
from reattach.api.location import ImportPgdata, LocationConfig
from reattach.api.numbers import Byte, GivenGeneration, NodeNumber, StripeSize
from reattach.api.shard import DEFAULT_STRIPE_SIZE

TENANT_CONFIG_KEYS = frozenset(
    [
        "basebackup_cache_enabled",
        "checkpoint_distance",
        "checkpoint_timeout",
        "compaction_algorithm",
        "compaction_l0_first",
        "compaction_l0_semaphore",
        "compaction_period",
        "compaction_shard_ancestor",
        "compaction_target_size",
        "compaction_threshold",
        "compaction_upper_limit",
        "eviction_policy",
        "evictions_low_residence_duration_metric_threshold",
        "gc_compaction_enabled",
        "gc_compaction_initial_threshold_kb",
        "gc_compaction_ratio_percent",
        "gc_compaction_verification",
        "gc_horizon",
        "gc_period",
        "heatmap_period",
        "image_creation_preempt_threshold",
        "image_creation_threshold",
        "image_layer_creation_check_threshold",
        "image_layer_force_creation_period",
        "l0_flush_delay_threshold",
        "l0_flush_stall_threshold",
        "lagging_wal_timeout",
        "lazy_slru_download",
        "lsn_lease_length",
        "lsn_lease_length_for_ts",
        "max_lsn_wal_lag",
        "min_resident_size_override",
        "pitr_interval",
        "rel_size_v2_enabled",
        "relsize_snapshot_cache_capacity",
        "sampling_ratio",
        "timeline_get_throttle",
        "timeline_offloading",
        "walreceiver_connect_timeout",
    ]
)


class PlacementPolicy:
    """How many locations a tenant's shards want.

    JSON: `{"Attached": n}` (attached once, with n secondaries), `"Secondary"` or `"Detached"`.
    """

    __slots__ = ("kind", "secondaries")

    def __init__(self, kind: str, secondaries: int = 0) -> None:
        self.kind = kind
        self.secondaries = secondaries

    @classmethod
    def attached(cls, secondaries: int = 0) -> PlacementPolicy:
        return cls("Attached", secondaries)

    @classmethod
    def from_json(cls, value: object) -> PlacementPolicy:
        """Raises ValueError."""
        match value:
            case "Secondary":
                return cls("Secondary", 1)
            case "Detached":
                return cls("Detached")
            case {"Attached": int(n), **rest} if n >= 0 and not rest and not isinstance(n, bool):
                return cls("Attached", n)
        raise ValueError(f"not a placement policy: {value!r}")

    def to_json(self) -> object:
        return {"Attached": self.secondaries} if self.is_attached else self.kind

    @property
    def is_attached(self) -> bool:
        return self.kind == "Attached"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementPolicy) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.kind, self.secondaries))

    def __repr__(self) -> str:
        return f"Attached({self.secondaries})" if self.is_attached else self.kind


DETACHED = PlacementPolicy("Detached")
SECONDARY = PlacementPolicy("Secondary", 1)


class ShardSchedulingPolicy(StrEnum):
    ACTIVE = "Active"
    ESSENTIAL = "Essential"
    PAUSE = "Pause"
    STOP = "Stop"


class NodeSchedulingPolicy(StrEnum):
    """PascalCase in the API, snake case in the database (`stored`)."""

    ACTIVE = "Active"
    FILLING = "Filling"
    PAUSE = "Pause"
    PAUSE_FOR_RESTART = "PauseForRestart"
    DRAINING = "Draining"
    DELETING = "Deleting"

    @property
    def stored(self) -> str:
        return self.name.lower()

    @classmethod
    def from_stored(cls, text: str) -> NodeSchedulingPolicy:
        """Raises ValueError."""
        try:
            return cls[text.upper()]
        except KeyError:
            raise ValueError(f"not a node scheduling policy: {text!r}") from None


class NodeAvailability(StrEnum):
    ACTIVE = "Active"
    WARMING_UP = "WarmingUp"
    OFFLINE = "Offline"


class ShardParameters(msgspec.Struct, frozen=True):
    """count 0: unsharded. stripe_size in pages."""

    count: Byte
    stripe_size: StripeSize


class TenantCreateRequest:
    """Body of `POST /v1/tenant`: its own keys, and those of the tenant's configuration beside them."""

    __slots__ = ("config", "generation", "new_tenant_id", "placement_policy", "shard_parameters")

    def __init__(
        self,
        new_tenant_id: TenantShardId,
        generation: int | None = None,
        shard_parameters: ShardParameters | None = None,
        placement_policy: PlacementPolicy | None = None,
        config: dict[str, object] | None = None,
    ) -> None:
        self.new_tenant_id = new_tenant_id
        self.generation = generation
        self.shard_parameters = shard_parameters or ShardParameters(0, DEFAULT_STRIPE_SIZE)
        self.placement_policy = placement_policy or PlacementPolicy.attached()
        self.config = config or {}

    @classmethod
    def from_json(cls, value: object) -> TenantCreateRequest:
        """Raises ValueError, also for unknown keys and for `"shard_parameters": null`."""
        if not isinstance(value, dict):
            raise ValueError("expected an object")
        known = _TenantCreateKeys.__struct_fields__
        own = codec.convert({k: v for k, v in value.items() if k in known}, _TenantCreateKeys)
        if own.shard_parameters is not msgspec.UNSET and own.shard_parameters.stripe_size == 0:
            raise ValueError("Invalid stripe size: 0")
        config = {k: v for k, v in value.items() if k not in known}
        check_tenant_config(config)
        return cls(
            own.new_tenant_id,
            own.generation,
            None if own.shard_parameters is msgspec.UNSET else own.shard_parameters,
            own.placement_policy,
            config,
        )


class _TenantCreateKeys(msgspec.Struct):
    new_tenant_id: TenantShardId
    generation: GivenGeneration | None = None
    shard_parameters: ShardParameters | msgspec.UnsetType = msgspec.UNSET
    placement_policy: PlacementPolicy | None = None


def check_tenant_config(config: dict[str, object]) -> None:
    """Raises ValueError that names the first unknown key."""
    unknown = sorted(config.keys() - TENANT_CONFIG_KEYS)
    if unknown:
        raise ValueError(f"unknown field `{unknown[0]}`")


class TenantCreateResponseShard(msgspec.Struct, frozen=True):
    shard_id: TenantShardId
    node_id: NodeId
    generation: int


class TenantCreateResponse(msgspec.Struct, frozen=True):
    shards: list[TenantCreateResponseShard]


class TenantDescribeResponseShard(msgspec.Struct, frozen=True, kw_only=True):
    tenant_shard_id: TenantShardId
    node_attached: NodeId | None
    node_secondary: list[NodeId]
    last_error: str
    is_reconciling: bool
    is_pending_compute_notification: bool
    is_splitting: bool
    is_importing: bool
    scheduling_policy: ShardSchedulingPolicy
    preferred_az_id: str | None


class TenantDescribeResponse(msgspec.Struct, frozen=True):
    tenant_id: TenantId
    shards: list[TenantDescribeResponseShard]
    stripe_size: int
    policy: PlacementPolicy
    config: dict[str, object]


class TenantLocateResponseShard(msgspec.Struct, frozen=True, kw_only=True):
    shard_id: TenantShardId
    node_id: NodeId
    listen_pg_addr: str
    listen_pg_port: int
    listen_grpc_addr: str | None
    listen_grpc_port: int | None
    listen_http_addr: str
    listen_http_port: int
    listen_https_port: int | None


class TenantLocateResponse(msgspec.Struct, frozen=True):
    shards: list[TenantLocateResponseShard]
    shard_params: ShardParameters


class TenantPolicyRequest(msgspec.Struct, frozen=True):
    placement: PlacementPolicy | None = None
    scheduling: ShardSchedulingPolicy | None = None


class MigrationConfig(msgspec.Struct, frozen=True):
    """The timeouts are humantime durations such as `20s`."""

    override_scheduler: bool = False
    prewarm: bool = True
    secondary_warmup_timeout: str | None = None
    secondary_download_request_timeout: str | None = None


class TenantShardMigrateRequest(msgspec.Struct, frozen=True):
    node_id: NodeNumber
    origin_node_id: NodeNumber | None = None
    migration_config: MigrationConfig = MigrationConfig()


class AttachHookRequest(msgspec.Struct, frozen=True):
    tenant_shard_id: TenantShardId
    node_id: NodeNumber | None
    generation_override: GivenGeneration | None = None
    config: dict[str, object] | None = None


class AttachHookResponse(msgspec.Struct, frozen=True):
    gen: int | None


class InspectRequest(msgspec.Struct, frozen=True):
    tenant_shard_id: TenantShardId


class InspectResponse(msgspec.Struct, frozen=True):
    """attachment: generation and node, None unless attached."""

    attachment: tuple[int, NodeId] | None


class NodeConfigureRequest(msgspec.Struct, frozen=True):
    node_id: NodeNumber
    availability: NodeAvailability | None = None
    scheduling: NodeSchedulingPolicy | None = None


class NodeDescribeResponse(msgspec.Struct, frozen=True, kw_only=True):
    id: NodeId
    availability: NodeAvailability
    scheduling: NodeSchedulingPolicy
    availability_zone_id: str
    listen_http_addr: str
    listen_http_port: int
    listen_https_port: int | None
    listen_pg_addr: str
    listen_pg_port: int
    listen_grpc_addr: str | None
    listen_grpc_port: int | None


class NodeShard(msgspec.Struct, frozen=True):
    tenant_shard_id: TenantShardId
    is_observed_secondary: bool | None
    is_intended_secondary: bool | None


class NodeShardResponse(msgspec.Struct, frozen=True):
    node_id: NodeId
    shards: list[NodeShard]


class FailpointConfig(msgspec.Struct, frozen=True):
    name: str
    actions: str


class TimelineCreateRequest(msgspec.Struct, frozen=True):
    """What the controller itself reads of a timeline creation; the rest is for the pageserver."""

    new_timeline_id: TimelineId
    ancestor_timeline_id: TimelineId | None = None
    import_pgdata: ImportPgdata | None = None

    @property
    def import_request(self) -> ImportPgdata | None:
        """Set if this asks for an import; a request that names an ancestor asks for a branch."""
        return self.import_pgdata if self.ancestor_timeline_id is None else None


class TimelineCreation:
    """Body of `POST /v1/tenant/:id/timeline`: what the controller reads of it, and as it came."""

    __slots__ = ("as_it_came", "request")

    def __init__(self, request: TimelineCreateRequest, as_it_came: dict[str, object]) -> None:
        self.request = request
        self.as_it_came = as_it_came

    @classmethod
    def from_json(cls, value: object) -> TimelineCreation:
        """Raises ValueError."""
        if not isinstance(value, dict):
            raise ValueError("expected an object")
        return cls(codec.convert(value, TimelineCreateRequest), value)


class TenantConfigRequest:
    """Body of `PUT` and `PATCH /v1/tenant/config`: the tenant, and the keys of its configuration beside it.

    With PATCH a null removes a key.
    """

    __slots__ = ("config", "tenant_id")

    def __init__(self, tenant_id: TenantId, config: dict[str, object]) -> None:
        self.tenant_id = tenant_id
        self.config = config

    @classmethod
    def from_json(cls, value: object) -> TenantConfigRequest:
        """Raises ValueError."""
        if not isinstance(value, dict):
            raise ValueError("expected an object")
        if "tenant_id" not in value:
            raise ValueError("missing field `tenant_id`")
        return cls(
            TenantId.from_json(value["tenant_id"]), {k: v for k, v in value.items() if k != "tenant_id"}
        )


class TenantListLocations(msgspec.Struct, frozen=True):
    """A pageserver's `GET /v1/location_config`; None where a location is being changed."""

    tenant_shards: list[tuple[TenantShardId, LocationConfig | None]]


class ImportPhase(StrEnum):
    """Where an import stands.

    creating: not yet on every shard's pageserver. importing: shards are at work. finalizing: every shard has
    ended; the timeline is being activated and the control plane told. finished: told, nothing left to do.
    """

    CREATING = "creating"
    IMPORTING = "importing"
    FINALIZING = "finalizing"
    FINISHED = "finished"


class ShardImportInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One shard's part of an import, for people. percent is 0 to 100; last_change is RFC 3339 in UTC."""

    shard: ShardIndex
    status: ShardImportStatus
    jobs: int | None
    completed: int | None
    percent: float
    last_change: str


class TimelineImportInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An import, for people. waiting_for says what keeps it from going on, None if nothing is known to."""

    tenant_id: TenantId
    timeline_id: TimelineId
    phase: ImportPhase
    waiting_for: str | None
    percent: float
    created_at: str
    last_change: str
    error: str | None
    shards: list[ShardImportInfo]
