"""Keys as arrays: what they say of many keys is what the vocabulary says of each."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reattach.api.key import Key, KeyRange
from reattach.api.shard import ShardIdentity
from reattach.pageserver.layers.key_arrays import (
    as_keys,
    blocks_of,
    disposable_mask,
    expand_runs,
    sortable,
)
from reattach.pageserver.layers.local_blocks import local_runs
from test_runner.unit.api.strategies import keys, rel_block_ranges, shards, timeline_keys


@given(st.lists(timeline_keys, min_size=1, max_size=50), shards)
def test_disposable_is_what_the_identity_says(many: list[Key], shard: ShardIdentity) -> None:
    """I8: a shard holds only its own keys, by the same rule wherever it is asked."""
    assert disposable_mask(as_keys(many), shard).tolist() == [shard.is_disposable(key) for key in many]


@given(st.lists(st.tuples(keys, st.integers(1, 50)), min_size=1, max_size=10))
def test_runs_expand_block_by_block(runs: list[tuple[Key, int]]) -> None:
    runs = [(key._replace(field6=min(key.field6, 0xFFFFFFFF - count)), count) for key, count in runs]
    expected = [key.advance(i) for key, count in runs for i in range(count)]
    expanded = expand_runs(as_keys(key for key, _ in runs), np.array([count for _, count in runs]))
    assert expanded.tobytes() == b"".join(key.to_bytes() for key in expected)
    assert blocks_of(expanded).tolist() == [key.field6 for key in expected]


@given(st.lists(keys, min_size=1, max_size=50))
def test_sortable_sorts_as_keys_do(many: list[Key]) -> None:
    order = np.argsort(sortable(as_keys(many)), kind="stable")
    assert [many[i] for i in order] == sorted(many)


# Stripes of which a range has many, with gaps between those that a shard keeps and without.
small_stripes = st.builds(ShardIdentity, st.integers(0, 1), st.integers(2, 3), st.integers(1, 40))


@given(
    st.one_of(shards, small_stripes),
    st.lists(st.one_of(rel_block_ranges(200), timeline_keys.map(KeyRange.single)), max_size=6),
)
def test_local_blocks_of_many_ranges(shard: ShardIdentity, ranges: list[KeyRange]) -> None:
    """I8: of a relation's blocks what the identity says, and every other key."""
    expected = [
        (number, first, end)
        for number, keys in enumerate(ranges)
        for first, end in (
            shard.local_runs(keys)
            if keys.start.is_rel_block
            else [(keys.start.field6, keys.start.field6 + 1)]
        )
    ]
    counts = [keys.end.field6 - keys.start.field6 if keys.start.is_rel_block else 1 for keys in ranges]
    runs = local_runs(shard, as_keys(keys.start for keys in ranges), np.array(counts, np.int64))
    assert list(zip(*(column.tolist() for column in runs), strict=True)) == expected
