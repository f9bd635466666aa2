"""Lists of deletions, and what a validation keeps of them."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from reattach.api.ids import ShardIndex, TenantId, TenantShardId, TimelineId
from reattach.pageserver.remote.deletion_lists import DeletionHeader, DeletionList, newest_generations

TENANT = TenantId("11" * 16)
TIMELINE = TimelineId("22" * 16)
SHARDS = [TenantShardId(TENANT, number, 3) for number in range(3)]

pushes = st.lists(
    st.tuples(
        st.sampled_from(SHARDS), st.integers(1, 3), st.lists(st.sampled_from("abcd"), min_size=1, max_size=3)
    ),
    max_size=8,
)


def fill(each: DeletionList, wanted: list[tuple[TenantShardId, int, list[str]]]) -> list[str]:
    """The paths that the list took."""
    taken = []
    for shard, generation, names in wanted:
        if each.push(shard, TIMELINE, generation, names):
            taken += [f"tenants/{shard}/timelines/{TIMELINE}/{name}" for name in names]
    return taken


@given(pushes)
def test_a_list_has_one_generation_per_tenant_shard(
    wanted: list[tuple[TenantShardId, int, list[str]]],
) -> None:
    each = DeletionList.empty(1)
    taken = fill(each, wanted)
    assert sorted(each.paths()) == sorted(taken)
    assert each.size == len(taken)
    seen: dict[TenantShardId, int] = {}
    for shard, generation, _ in wanted:
        seen.setdefault(shard, generation)
    assert dict(each.generations()) == seen


@given(pushes, st.dictionaries(st.sampled_from(SHARDS), st.integers(1, 3)))
def test_only_the_valid_generation_survives(
    wanted: list[tuple[TenantShardId, int, list[str]]], valid: dict[TenantShardId, int]
) -> None:
    """I4: deletions of a stale generation, or of a shard that nobody knows, are dropped."""
    each = DeletionList.empty(1)
    before = fill(each, wanted)
    generations = dict(each.generations())
    dropped = each.drop_invalid(valid)
    assert set(dropped) == {shard for shard, mine in generations.items() if valid.get(shard) != mine}
    assert sorted(list(each.paths()) + [path for paths in dropped.values() for path in paths]) == sorted(
        before
    )
    assert each.size == len(list(each.paths()))


@given(pushes)
def test_round_trip(wanted: list[tuple[TenantShardId, int, list[str]]]) -> None:
    each = DeletionList.empty(7)
    fill(each, wanted)
    again = DeletionList.from_json_bytes(each.to_json_bytes())
    assert again == each


def test_the_file() -> None:
    each = DeletionList.empty(255)
    each.push(SHARDS[1], TIMELINE, 4, ["x-00000003"])
    assert each.file_name == "00000000000000ff-01.list"
    assert json.loads(each.to_json_bytes()) == {
        "version": 1,
        "sequence": 255,
        "tenants": {f"{TENANT}-0103": {"timelines": {str(TIMELINE): ["x-00000003"]}, "generation": 4}},
        "size": 1,
    }
    assert DeletionHeader.of(3) == DeletionHeader(1, 3)


def test_recovery_takes_over_the_generation_before_only() -> None:
    each = DeletionList.empty(1)
    for number, generation in enumerate((3, 4, 5)):
        each.push(SHARDS[number], TIMELINE, generation, ["x"])
    each.relabel(dict.fromkeys(SHARDS, 5))
    assert dict(each.generations()) == {SHARDS[0]: 3, SHARDS[1]: 5, SHARDS[2]: 5}


def test_newest_generations() -> None:
    seen = [(SHARDS[0], 2), (SHARDS[0], 1), (SHARDS[1], 7)]
    assert newest_generations(iter(seen)) == {SHARDS[0]: 2, SHARDS[1]: 7}
    assert SHARDS[0].shard_index == ShardIndex(0, 3)
