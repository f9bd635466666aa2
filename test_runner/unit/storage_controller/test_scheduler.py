"""Where shards go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.api.controller import DETACHED, SECONDARY, PlacementPolicy
from reattach.api.ids import NodeId
from reattach.storage_controller.core.model import Intent
from reattach.storage_controller.core.scheduler import (
    OVERLOADED_SCORE,
    Candidate,
    Preferences,
    ScheduleError,
    better_node,
    choose_attached,
    choose_secondary,
    home_zone,
    leave_node,
    schedule,
)

ANYWHERE = Preferences(None, {})


def node(number: int, zone: str = "a", *, up: bool = True, score: int = 0, attached: int = 0) -> Candidate:
    return Candidate(NodeId(number), zone, up, score, attached)


def intent(attached: int | None, *secondary: int) -> Intent:
    return Intent(None if attached is None else NodeId(attached), tuple(NodeId(n) for n in secondary))


nodes = st.lists(
    st.builds(
        node,
        st.integers(1, 5),
        st.sampled_from("ab"),
        up=st.booleans(),
        score=st.sampled_from([0, 5, OVERLOADED_SCORE]),
        attached=st.integers(0, 3),
    ),
    max_size=5,
    unique_by=lambda c: c.node_id,
)
policies = st.sampled_from(
    [
        DETACHED,
        SECONDARY,
        PlacementPolicy.attached(0),
        PlacementPolicy.attached(1),
        PlacementPolicy.attached(2),
    ]
)
intents = st.builds(
    lambda chosen, has_attached: (
        intent(chosen[0], *chosen[1:]) if chosen and has_attached else intent(None, *chosen)
    ),
    st.lists(st.integers(1, 5), unique=True, max_size=4),
    st.booleans(),
)


@given(intents, policies, nodes)
def test_schedule_fits_the_policy(
    before: Intent, policy: PlacementPolicy, candidates: list[Candidate]
) -> None:
    """The result has what the policy wants, no node twice, nothing new on a node that takes nothing."""
    able = {c.node_id for c in candidates if c.may_schedule}
    try:
        after = schedule(before, policy, candidates, ANYWHERE)
    except ScheduleError:
        assert not able - before.nodes
        return
    assert (after.attached is not None) == policy.is_attached
    assert len(after.secondary) <= policy.secondaries
    assert len(after.nodes) == len(after.secondary) + (after.attached is not None)
    assert after.nodes - before.nodes <= able
    if policy.is_attached and before.attached is not None:
        assert after.attached == before.attached
    if len(after.secondary) < policy.secondaries:
        assert not able - after.nodes
    assert schedule(after, policy, candidates, ANYWHERE) == after


def test_attached_prefers_home_then_distance_from_siblings_then_load() -> None:
    home = Preferences("a", {NodeId(1): 1})
    assert choose_attached([node(1), node(2, "b")], home) == 1
    assert choose_attached([node(1), node(2, "a", score=9)], home) == 2
    assert choose_attached([node(3, score=9), node(4, score=1)], home) == 4
    assert choose_attached([node(3, attached=2), node(4, attached=1)], home) == 4
    assert choose_attached([node(4), node(3)], home) == 3
    assert choose_attached([node(3, "a", score=OVERLOADED_SCORE), node(4, "b")], home) == 4


def test_secondary_prefers_another_zone() -> None:
    assert choose_secondary([node(1), node(2), node(3, "b")], Preferences("a", {}), exclude=[NodeId(1)]) == 3


def test_no_nodes_and_no_fitting_node_are_told_apart() -> None:
    with pytest.raises(ScheduleError, match="No pageservers found"):
        choose_attached([], ANYWHERE)
    with pytest.raises(ScheduleError, match="No pageserver found matching constraint"):
        choose_attached([node(1, up=False)], ANYWHERE)


def test_a_lost_node_is_followed_by_its_warm_secondary() -> None:
    """I10: the secondary becomes attached, whatever scores better; the lost node stays a secondary."""
    left = leave_node(intent(1, 2), NodeId(1))
    candidates = [node(1, up=False), node(2, "b", score=9), node(3)]
    assert schedule(left, PlacementPolicy.attached(1), candidates, Preferences("a", {})) == intent(2, 1)


def test_leaving_another_node_changes_nothing() -> None:
    assert leave_node(intent(1, 2), NodeId(2)) == intent(1, 2)


def test_better_node_ignores_load() -> None:
    wishes = Preferences("a", {})
    assert better_node([node(1, "a", score=9), node(2, "a")], wishes, NodeId(1)) is None
    assert better_node([node(1, "b"), node(2, "a", score=9)], wishes, NodeId(1)) == 2
    assert better_node([node(1, "b"), node(2, "a", up=False)], wishes, NodeId(1)) is None


def test_home_zone_is_the_least_crowded_per_node() -> None:
    zones = {NodeId(1): "a", NodeId(2): "a", NodeId(3): "b"}
    assert home_zone(zones, ["a", "b"]) == "a"
    assert home_zone(zones, ["a", "a"]) == "b"
    assert home_zone({}, []) is None
