"""Sharding: the reference's vectors, who keeps what, page counts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.api.key import (
    CHECKPOINT_KEY,
    CONTROLFILE_KEY,
    DBDIR_KEY,
    TWOPHASEDIR_KEY,
    Key,
    KeyRange,
    RelTag,
    SlruKind,
    reldir_key,
    relmap_key,
    slru_block_key,
    slru_dir_key,
    slru_segment_size_key,
)
from reattach.api.shard import (
    ShardIdentity,
    hash_combine,
    murmurhash32,
)
from test_runner.unit.api.strategies import rel_block_ranges, shards, timeline_keys

SHARDED_ONLY_ON_ZERO = (
    slru_dir_key(SlruKind.CLOG),
    slru_block_key(SlruKind.MULTIXACT_MEMBERS, 1, 2),
    slru_segment_size_key(SlruKind.MULTIXACT_OFFSETS, 1),
    *(RelTag(1663, 5, 16384, 3).block(i * 2048) for i in range(8)),
    Key(0x62, 1, 2, 3, 4, 5),
)
GLOBAL = (
    DBDIR_KEY,
    relmap_key(1663, 5),
    reldir_key(1663, 5),
    RelTag(1663, 5, 16384, 0).size_key(),
    RelTag(1663, 5, 16384, 3).size_key(),
    TWOPHASEDIR_KEY,
    CONTROLFILE_KEY,
    CHECKPOINT_KEY,
)


def test_hash_vectors() -> None:
    assert murmurhash32(0) == 0
    assert hash_combine(0xB1FF3B40, 0) == 0xFB7923C9
    assert ShardIdentity(0, 10, 32768).shard_of(Key(0, 0x67F, 5, 0x400C, 0, 0x7D06)) == 8


@pytest.mark.parametrize(
    ("count", "stripe", "expected"),
    [
        (2, 2048, "0 1 0 1 1 1 0 0 1 1 0 0"),
        (4, 2048, "0 3 2 3 1 1 0 0 3 3 0 0"),
        (8, 1024, "4 7 6 7 1 1 4 0 3 3 4 0"),
    ],
)
def test_stripe_vectors(count: int, stripe: int, expected: str) -> None:
    shard = ShardIdentity(0, count, stripe)
    rel = RelTag(1663, 5, 16384, 0)
    assert [shard.shard_of(rel.block(i * stripe)) for i in range(12)] == [int(n) for n in expected.split()]


@given(timeline_keys, st.integers(2, 255), st.integers(1, 5000))
def test_every_key_is_kept_by_all_or_by_exactly_one_shard(key: Key, count: int, stripe: int) -> None:
    """I8: nothing is lost and nothing is on two shards that is not meant to be."""
    keepers = [n for n in range(count) if not ShardIdentity(n, count, stripe).is_disposable(key)]
    assert len(keepers) in (1, count)


@pytest.mark.parametrize("count", [2, 5])
def test_shard_zero_keeps_what_only_it_can_own(count: int) -> None:
    for key in SHARDED_ONLY_ON_ZERO:
        assert [ShardIdentity(n, count).is_disposable(key) for n in range(count)] == [False] + [True] * (
            count - 1
        )
    for key in GLOBAL:
        assert not any(ShardIdentity(n, count).is_disposable(key) for n in range(count))


@given(shards, rel_block_ranges())
def test_runs_are_those_of_counting_one_by_one(shard: ShardIdentity, blocks: KeyRange) -> None:
    first, end = blocks.start.field6, blocks.end.field6
    kept = [b for b in range(first, end) if not shard.is_disposable(blocks.start._replace(field6=b))]
    runs = list(shard.local_runs(blocks))
    assert [b for run_first, run_end in runs for b in range(run_first, run_end)] == kept
    assert all(a[1] < b[0] for a, b in pairwise(runs)), "runs that touch are one run"


@pytest.mark.parametrize(
    ("number", "count", "stripe"), [(2, 2, 1), (1, 0, 1), (0, 2, 0), (0, 256, 1), (-1, 2, 1)]
)
def test_impossible_identities_are_refused(number: int, count: int, stripe: int) -> None:
    with pytest.raises(ValueError):
        ShardIdentity(number, count, stripe)
