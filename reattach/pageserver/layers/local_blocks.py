"""Which blocks of relation forks a shard keeps, of many ranges of them at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from reattach.api.key import SIZE_FIELD, Fork
from reattach.api.shard import ShardIdentity
from reattach.pageserver.layers.key_arrays import (
    Keys,
    Numbers,
    blocks_of,
    relnodes_of,
    shards_of_blocks,
)


class Runs(NamedTuple):
    """Blocks `first` to `end`, not including it, of range number `owner`; a row for each run."""

    owner: Numbers
    first: Numbers
    end: Numbers


def local_runs(shard: ShardIdentity, firsts: Keys, counts: Numbers) -> Runs:
    """The longest runs of what the shard keeps of each range, in order. A range: `counts` keys from `firsts`.

    What `ShardIdentity.local_runs` gives, but for all ranges and stripes at once. Keys that are no relation's
    blocks are kept.
    """
    starts = blocks_of(firsts).astype(np.int64)
    ends = starts + counts
    if shard.count < 2:
        owner = np.flatnonzero(counts)
        return Runs(owner, starts[owner], ends[owner])
    relnodes, forks = relnodes_of(firsts), firsts[:, 13]
    is_block = (firsts[:, 0] == 0) & (relnodes != 0) & (starts != SIZE_FIELD)
    # A row per stripe of each range, then cut to the range.
    stripe = shard.stripe_size
    stripes = np.where(counts > 0, -(-ends // stripe) - starts // stripe, 0)
    owner = np.repeat(np.arange(len(counts)), stripes)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(stripes) - stripes, stripes)
    stripe_starts = (starts[owner] // stripe + within) * stripe
    shards = shards_of_blocks(relnodes[owner], stripe_starts.astype(np.uint32), shard)
    shards[forks[owner] == Fork.INIT] = 0
    kept = np.flatnonzero((shards == shard.number) | ~is_block[owner])
    owner, stripe_starts = owner[kept], stripe_starts[kept]
    first = np.maximum(stripe_starts, starts[owner])
    end = np.minimum(stripe_starts + stripe, ends[owner])
    # Stripes that follow each other are one run.
    follows = (owner[1:] == owner[:-1]) & (first[1:] == end[:-1])
    begins = np.flatnonzero(np.append(True, ~follows)[: len(owner)])
    return Runs(owner[begins], first[begins], end[np.append(begins, len(owner))[1:] - 1])
