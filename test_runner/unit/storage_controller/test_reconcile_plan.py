"""The steps from observed to intended, taken against a model of pageservers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reattach.api.controller import PlacementPolicy
from reattach.api.ids import NodeId, TenantId, TenantShardId
from reattach.api.location import LocationConfig, LocationConfigMode, SecondaryConf
from reattach.storage_controller.core import reconcile_plan as plan
from reattach.storage_controller.core.model import Intent, Shard

NODES = [NodeId(n) for n in (1, 2, 3)]
TENANT = TenantId("11" * 16)
MODES = [
    LocationConfigMode.ATTACHED_SINGLE,
    LocationConfigMode.ATTACHED_MULTI,
    LocationConfigMode.ATTACHED_STALE,
    LocationConfigMode.SECONDARY,
]


def location(mode: LocationConfigMode, generation: int | None) -> LocationConfig:
    attached = mode.is_attached
    return LocationConfig(
        mode=mode,
        tenant_conf={},
        generation=generation if attached else None,
        secondary_conf=None if attached else SecondaryConf(warm=True),
        shard_stripe_size=2048,
    )


def make_shard(intent: Intent, generation: int | None, generation_node: NodeId | None) -> Shard:
    return Shard(
        id=TenantShardId.unsharded(TENANT),
        stripe_size=2048,
        generation=generation,
        generation_node=generation_node,
        policy=PlacementPolicy.attached(len(intent.secondary)),
        config={},
        intent=intent,
    )


locations = st.builds(location, st.sampled_from(MODES), st.integers(1, 4))
worlds = st.dictionaries(st.sampled_from(NODES), locations)
intents = st.builds(
    lambda nodes, attached: (
        Intent(nodes[0], tuple(nodes[1:])) if attached and nodes else Intent(None, tuple(nodes))
    ),
    st.lists(st.sampled_from(NODES), unique=True, max_size=2),
    st.booleans(),
)


class World:
    """The pageservers, and what a reconciler that takes single steps does to them."""

    def __init__(self, shard: Shard, there: dict[NodeId, LocationConfig]) -> None:
        self.shard = shard
        self.there = there
        self.issued: list[int] = []

    def issue(self, node: NodeId) -> int:
        self.shard.generation = (self.shard.generation or 0) + 1
        self.shard.generation_node = node
        self.issued.append(self.shard.generation)
        return self.shard.generation

    def put(self, node: NodeId, conf: LocationConfig) -> None:
        if conf.mode is LocationConfigMode.DETACHED:
            self.there.pop(node, None)
            self.shard.observed.pop(node, None)
        else:
            self.there[node] = conf
            self.shard.observed[node] = conf

    def take(self, step: plan.Step) -> None:
        shard = self.shard
        single = LocationConfigMode.ATTACHED_SINGLE
        match step:
            case plan.Query(node):
                if node in self.there:
                    shard.observed[node] = self.there[node]
                else:
                    shard.observed.pop(node)
            case plan.Attach(node, new_generation):
                generation = self.issue(node) if new_generation else shard.generation
                assert generation is not None
                self.put(node, plan.attached_location(shard, generation, single))
            case plan.LiveMigrate(origin, destination):
                assert self.there[origin].mode is single
                self.put(origin, plan.secondary_location(shard))
                self.put(destination, plan.attached_location(shard, self.issue(destination), single))
            case plan.MakeSecondary(node):
                self.put(node, plan.secondary_location(shard))
            case plan.Detach(node):
                self.put(node, plan.detached_location(shard))
            case plan.NotifyCompute():
                shard.notify_compute = False


@given(
    there=worlds,
    unknown=st.sets(st.sampled_from(NODES)),
    intent=intents,
    generation=st.integers(4, 5),
    generation_node=st.none() | st.sampled_from(NODES),
    available=st.sets(st.sampled_from(NODES)),
    notify=st.booleans(),
)
def test_steps_lead_to_the_intent(
    there: dict[NodeId, LocationConfig],
    unknown: set[NodeId],
    intent: Intent,
    generation: int,
    generation_node: NodeId | None,
    available: set[NodeId],
    notify: bool,
) -> None:
    """From any state, with any nodes away: it ends, each generation is new, what can be right is right."""
    shard = make_shard(intent, generation, generation_node)
    shard.notify_compute = notify
    shard.observed = {**there, **dict.fromkeys(unknown)}
    away = {node: conf for node, conf in there.items() if node not in available}
    world = World(shard, dict(there))
    for _ in range(12):
        step = plan.next_step(shard, available)
        if step is None:
            break
        world.take(step)
    assert plan.next_step(shard, available) is None
    assert world.issued == list(range(generation + 1, generation + 1 + len(world.issued)))
    assert {node: conf for node, conf in world.there.items() if node not in available} == away
    target = intent.attached
    if target is None or target in available:
        expected = {node for node in intent.nodes if node in available}
        assert {node for node in world.there if node in available} == expected
        assert not (shard.notify_compute and target is not None)
    if target is not None and target in available:
        assert plan.is_attached_as_recorded(shard)
        attached = [n for n, conf in world.there.items() if conf.generation == shard.generation]
        assert [n for n in attached if n in available] == [target]


def test_what_is_right_is_left_alone() -> None:
    """Nothing to do for a shard as it should be, however its pageserver spells its configuration."""
    shard = make_shard(Intent(NODES[0]), 3, NODES[0])
    shard.config = {"gc_period": "1h"}
    shard.observed = {
        NODES[0]: LocationConfig(
            mode=LocationConfigMode.ATTACHED_SINGLE,
            tenant_conf={"gc_period": "1h", "pitr_interval": None},
            generation=3,
        )
    }
    assert plan.next_step(shard, NODES) is None


def test_a_new_configuration_keeps_the_generation() -> None:
    shard = make_shard(Intent(NODES[0]), 3, NODES[0])
    shard.observed = {NODES[0]: plan.attached_location(shard, 3, LocationConfigMode.ATTACHED_SINGLE)}
    shard.config = {"gc_period": "1h"}
    assert plan.next_step(shard, NODES) == plan.Attach(NODES[0], new_generation=False)


def test_an_attachment_that_the_database_withdrew_needs_a_new_generation() -> None:
    """Detached and attached again before anybody acted: the location is there, but no longer recorded."""
    shard = make_shard(Intent(NODES[0]), 3, None)
    shard.observed = {NODES[0]: plan.attached_location(shard, 3, LocationConfigMode.ATTACHED_SINGLE)}
    assert plan.next_step(shard, NODES) == plan.Attach(NODES[0], new_generation=True)


def test_nothing_is_detached_while_the_intended_node_is_away() -> None:
    shard = make_shard(Intent(NODES[0]), 3, NODES[1])
    shard.observed = {NODES[1]: location(LocationConfigMode.ATTACHED_SINGLE, 3)}
    assert plan.next_step(shard, {NODES[1]}) is None


def test_a_live_migration_needs_an_origin_that_serves() -> None:
    shard = make_shard(Intent(NODES[0]), 3, NODES[1])
    shard.observed = {NODES[1]: location(LocationConfigMode.ATTACHED_SINGLE, 3)}
    assert plan.next_step(shard, NODES) == plan.LiveMigrate(NODES[1], NODES[0])
    shard.observed = {NODES[1]: location(LocationConfigMode.ATTACHED_STALE, 3)}
    assert plan.next_step(shard, NODES) == plan.Attach(NODES[0], new_generation=True)
