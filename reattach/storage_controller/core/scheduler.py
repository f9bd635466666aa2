"""Which nodes a shard's locations go to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from reattach.api.controller import PlacementPolicy
from reattach.api.ids import NodeId
from reattach.storage_controller.core.model import Intent, Node

OVERLOADED_SCORE = 2_000_000


class ScheduleError(Exception):
    """No node can take a location that the policy cannot do without."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What scheduling needs to know of a node. `attached` counts the shards that are attached there."""

    node_id: NodeId
    availability_zone: str
    may_schedule: bool
    score: int = 0
    attached: int = 0


@dataclass(frozen=True, slots=True)
class Preferences:
    """affinity: how many of the tenant's other shards each node holds."""

    availability_zone: str | None
    affinity: Mapping[NodeId, int]


def candidates_of(nodes: Iterable[Node], attached: Mapping[NodeId | None, int]) -> list[Candidate]:
    """attached: how many shards are to be attached to each node."""
    return [
        Candidate(n.id, n.availability_zone, n.may_schedule, n.utilization_score, attached.get(n.id, 0))
        for n in nodes
    ]


def _order(candidate: Candidate, wishes: Preferences, *, home: bool) -> tuple[bool, int, int, int, int, int]:
    if wishes.availability_zone is None:
        zone = 1
    else:
        zone = 0 if (candidate.availability_zone == wishes.availability_zone) == home else 2
    return (
        candidate.score >= OVERLOADED_SCORE,
        zone,
        wishes.affinity.get(candidate.node_id, 0),
        candidate.score,
        candidate.attached,
        candidate.node_id,
    )


def choose_attached(
    candidates: Collection[Candidate], wishes: Preferences, *, exclude: Collection[NodeId] = ()
) -> NodeId:
    """The best node to attach to: in the preferred zone, away from siblings, little used.

    Raises ScheduleError.
    """
    return _choose(candidates, wishes, exclude, home=True)


def choose_secondary(
    candidates: Collection[Candidate], wishes: Preferences, *, exclude: Collection[NodeId]
) -> NodeId:
    """The best node for a secondary: in another zone than the preferred one first. Raises ScheduleError."""
    return _choose(candidates, wishes, exclude, home=False)


def _choose(
    candidates: Collection[Candidate], wishes: Preferences, exclude: Collection[NodeId], *, home: bool
) -> NodeId:
    if not candidates:
        raise ScheduleError("No pageservers found")
    eligible = [c for c in candidates if c.may_schedule and c.node_id not in exclude]
    if not eligible:
        raise ScheduleError("No pageserver found matching constraint")
    return min(eligible, key=lambda c: _order(c, wishes, home=home)).node_id


def better_node(candidates: Collection[Candidate], wishes: Preferences, node: NodeId) -> NodeId | None:
    """A node that suits the shard's wishes better than `node`, however busy it is; None if there is none."""

    def suits(candidate: Candidate) -> tuple[bool, int, int]:
        return _order(candidate, wishes, home=True)[:3]

    here = next((c for c in candidates if c.node_id == node), None)
    others = [c for c in candidates if c.may_schedule and c.node_id != node]
    best = min(others, key=suits, default=None)
    return best.node_id if best and here and suits(best) < suits(here) else None


def schedule(
    intent: Intent, policy: PlacementPolicy, candidates: Collection[Candidate], wishes: Preferences
) -> Intent:
    """`intent` changed as little as possible to fit `policy`.

    A lacking secondary is no error as long as the shard is attached. Raises ScheduleError.
    """
    if not policy.is_attached and policy.secondaries == 0:
        return Intent()
    attached, secondary = intent.attached, list(intent.secondary)
    if not policy.is_attached:
        if attached is not None:
            secondary.insert(0, attached)
        attached = None
    elif attached is None:
        warm = [c for c in candidates if c.node_id in secondary and c.may_schedule]
        attached = choose_attached(warm or candidates, wishes)
    secondary = list(dict.fromkeys(node for node in secondary if node != attached))[: policy.secondaries]
    while len(secondary) < policy.secondaries:
        exclude = [*secondary, attached] if attached is not None else secondary
        try:
            secondary.append(choose_secondary(candidates, wishes, exclude=exclude))
        except ScheduleError:
            if attached is None and not secondary:
                raise
            break
    return Intent(attached, tuple(secondary))


def leave_node(intent: Intent, node: NodeId) -> Intent:
    """`intent` with the attached location on `node` demoted, so that scheduling finds another one.

    The node stays a secondary: when it comes back, what it has on disk is still of use.
    """
    if intent.attached != node:
        return intent
    return Intent(None, (*intent.secondary, node))


def home_zone(zones_of_nodes: Mapping[NodeId, str], homes: Iterable[str | None]) -> str | None:
    """The zone with the fewest shards that call it home, per node; None without nodes."""
    nodes_per_zone = Counter(zones_of_nodes.values())
    if not nodes_per_zone:
        return None
    at_home = Counter(homes)
    return min(nodes_per_zone, key=lambda zone: (at_home[zone] / nodes_per_zone[zone], zone))
