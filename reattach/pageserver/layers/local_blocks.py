"""Which blocks of a relation fork a shard keeps, a whole segment at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reattach.api.key import Fork, KeyRange
from reattach.api.shard import ShardIdentity
from reattach.pageserver.layers.key_arrays import shards_of_blocks


def local_runs(shard: ShardIdentity, keys: KeyRange) -> list[tuple[int, int]]:
    """The longest runs `(first, end)` of a rel block range's blocks that the shard keeps.

    What `ShardIdentity.local_runs` gives, but for all stripes at once.
    """
    first, end = keys.start.field6, keys.end.field6
    if first >= end:
        return []
    if shard.count < 2:
        return [(first, end)]
    if keys.start.field5 == Fork.INIT:
        return [(first, end)] if shard.number == 0 else []
    stripe = shard.stripe_size
    first_stripe, end_stripe = first // stripe, -(-end // stripe)
    if end_stripe - first_stripe == 1:
        return [(first, end)] if shard.is_local(keys.start) else []
    starts = np.arange(first_stripe, end_stripe, dtype=np.uint64) * np.uint64(stripe)
    relnodes = np.full(len(starts), keys.start.field4, np.uint32)
    kept = shards_of_blocks(relnodes, starts.astype(np.uint32), shard) == shard.number
    edges = np.flatnonzero(np.diff(kept, prepend=False, append=False)) + first_stripe
    bounds = np.clip(edges * stripe, first, end).reshape(-1, 2).tolist()
    return [(run_first, run_end) for run_first, run_end in bounds]


def count_local_blocks(shard: ShardIdentity, ranges: Sequence[KeyRange]) -> list[int]:
    """How many blocks of each rel block range the shard keeps, for all ranges at once."""
    if shard.count < 2 or not ranges:
        return [keys.end.field6 - keys.start.field6 for keys in ranges]
    relnodes = np.fromiter((keys.start.field4 for keys in ranges), np.int64, len(ranges))
    forks = np.fromiter((keys.start.field5 for keys in ranges), np.int64, len(ranges))
    firsts = np.fromiter((keys.start.field6 for keys in ranges), np.int64, len(ranges))
    ends = np.fromiter((keys.end.field6 for keys in ranges), np.int64, len(ranges))
    stripe = shard.stripe_size
    # A row per stripe of each range, then cut to the range.
    first_stripes = firsts // stripe
    stripes = np.maximum(-(-ends // stripe) - first_stripes, 0)
    owner = np.repeat(np.arange(len(ranges)), stripes)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(stripes) - stripes, stripes)
    starts = (first_stripes[owner] + within) * stripe
    pages = np.minimum(starts + stripe, ends[owner]) - np.maximum(starts, firsts[owner])
    shards = shards_of_blocks(relnodes[owner].astype(np.uint32), starts.astype(np.uint32), shard)
    shards[forks[owner] == Fork.INIT] = 0
    kept = np.where(shards == shard.number, pages, 0)
    counts: list[int] = np.bincount(owner, weights=kept, minlength=len(ranges)).astype(np.int64).tolist()
    return counts
