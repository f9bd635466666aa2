"""From where a shard's locations are to where they should be, one step at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from reattach.api.ids import NodeId
from reattach.api.location import LocationConfig, LocationConfigMode, SecondaryConf
from reattach.storage_controller.core.model import Shard

DEFAULT_HEATMAP_PERIOD = "60s"


@dataclass(frozen=True, slots=True)
class Query:
    """Ask `node` which location it has."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class LiveMigrate:
    """Move the attachment while the origin goes on serving reads."""

    origin: NodeId
    destination: NodeId


@dataclass(frozen=True, slots=True)
class Attach:
    """Attach to `node`, in a new generation if `new_generation`."""

    node: NodeId
    new_generation: bool


@dataclass(frozen=True, slots=True)
class MakeSecondary:
    node: NodeId


@dataclass(frozen=True, slots=True)
class Detach:
    node: NodeId


@dataclass(frozen=True, slots=True)
class NotifyCompute:
    """Tell the control plane where the shard is attached."""


Step = Query | LiveMigrate | Attach | MakeSecondary | Detach | NotifyCompute


def attached_location(shard: Shard, generation: int, mode: LocationConfigMode) -> LocationConfig:
    """What an attached pageserver should have."""
    config = dict(shard.config)
    if shard.policy.secondaries > 0 or shard.intent.secondary:
        config.setdefault("heatmap_period", DEFAULT_HEATMAP_PERIOD)
    else:
        config.pop("heatmap_period", None)
    return _location(shard, mode, config, generation=generation)


def secondary_location(shard: Shard) -> LocationConfig:
    """What a pageserver with a warm secondary should have."""
    return _location(
        shard, LocationConfigMode.SECONDARY, dict(shard.config), secondary_conf=SecondaryConf(warm=True)
    )


def detached_location(shard: Shard) -> LocationConfig:
    return _location(shard, LocationConfigMode.DETACHED, {})


def _location(
    shard: Shard,
    mode: LocationConfigMode,
    config: dict[str, Any],
    *,
    generation: int | None = None,
    secondary_conf: SecondaryConf | None = None,
) -> LocationConfig:
    return LocationConfig(
        mode=mode,
        tenant_conf=config,
        generation=generation,
        secondary_conf=secondary_conf,
        shard_number=shard.id.shard_number,
        shard_count=shard.id.shard_count,
        shard_stripe_size=shard.stripe_size,
    )


def same_location(a: LocationConfig, b: LocationConfig) -> bool:
    """Whether two locations mean the same, however a pageserver spells what it was given."""

    def meaning(location: LocationConfig) -> tuple[object, ...]:
        sharded = location.shard_count > 1
        return (
            location.mode,
            location.generation,
            location.secondary_conf,
            location.shard_number,
            location.shard_count,
            location.shard_stripe_size if sharded else None,
            {k: v for k, v in location.tenant_conf.items() if v is not None},
        )

    return meaning(a) == meaning(b)


def is_attached_as_recorded(shard: Shard) -> bool:
    """Whether the intended node is known to have the shard in the generation issued to it."""
    node = shard.intent.attached
    location = None if node is None else shard.observed.get(node)
    return (
        location is not None
        and location.mode is LocationConfigMode.ATTACHED_SINGLE
        and location.generation == shard.generation
        and shard.generation_node == node
    )


def next_step(shard: Shard, available: Collection[NodeId]) -> Step | None:
    """What to do next, None if nothing is left that can be done now. Unavailable nodes are left alone."""
    target = shard.intent.attached
    if target is not None:
        if target not in available:
            return None
        step = _attach_step(shard, target, available)
        if step is not None:
            return step
    for node in shard.intent.secondary:
        location = shard.observed.get(node)
        if node in available and not (location and same_location(location, secondary_location(shard))):
            return MakeSecondary(node)
    for node in sorted(shard.observed):
        if node in available and node not in shard.intent.nodes:
            return Detach(node)
    return NotifyCompute() if shard.notify_compute and target is not None else None


def _attach_step(shard: Shard, target: NodeId, available: Collection[NodeId]) -> Step | None:
    observed: Mapping[NodeId, LocationConfig | None] = shard.observed
    if target in observed and observed[target] is None:
        return Query(target)
    location = observed.get(target)
    if location is None or location.mode is LocationConfigMode.SECONDARY:
        for origin in sorted(observed):
            there = observed[origin]
            if (
                origin != target
                and origin in available
                and there is not None
                and there.mode is LocationConfigMode.ATTACHED_SINGLE
            ):
                return LiveMigrate(origin, target)
    if not is_attached_as_recorded(shard):
        return Attach(target, new_generation=True)
    assert location is not None and shard.generation is not None
    wanted = attached_location(shard, shard.generation, LocationConfigMode.ATTACHED_SINGLE)
    if not same_location(location, wanted):
        return Attach(target, new_generation=False)
    return None
