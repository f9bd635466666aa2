"""Which blocks of a relation fork a shard keeps, a whole segment at a time."""

from __future__ import annotations

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


def count_local_blocks(shard: ShardIdentity, keys: KeyRange) -> int:
    """How many blocks of a rel block range the shard keeps."""
    return sum(end - first for first, end in local_runs(shard, keys))
