"""Many keys at a time: arrays of shape (n, 18), dtype uint8, a key's byte form per row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from reattach.api.key import KEY_SIZE, SIZE_FIELD, Fork, Key
from reattach.api.shard import ShardIdentity

Keys: TypeAlias = npt.NDArray[np.uint8]
Mask: TypeAlias = npt.NDArray[np.bool_]

KeyRun: TypeAlias = tuple[Key, int]
"""A key and how many keys of the same fork, block by block, start there."""

_AUX_FILE = 0x62


def expand_runs(runs: Sequence[KeyRun]) -> Keys:
    """Every key of the runs, in their order."""
    counts = np.fromiter((count for _, count in runs), np.int64, len(runs))
    starts = np.frombuffer(b"".join(key.to_bytes() for key, _ in runs), np.uint8).reshape(-1, KEY_SIZE)
    keys = np.repeat(starts, counts, axis=0)
    first_row = np.repeat(np.cumsum(counts) - counts, counts)
    within_run = (np.arange(len(keys)) - first_row).astype(np.uint32)
    keys[:, 14:] = _big_endian(blocks_of(keys) + within_run)
    return keys


def blocks_of(keys: Keys) -> npt.NDArray[np.uint32]:
    """`field6` of every key."""
    return _u32(keys, 14)


def sortable(keys: Keys) -> npt.NDArray[np.bytes_]:
    """The keys as one array of byte strings, which numpy compares and searches in key order."""
    return np.ascontiguousarray(keys).view(f"S{KEY_SIZE}").reshape(-1)


def disposable_mask(keys: Keys, shard: ShardIdentity) -> Mask:
    """Which keys the shard has no use for; what `ShardIdentity.is_disposable` says of each."""
    if shard.count < 2:
        return np.zeros(len(keys), np.bool_)
    field1, field5 = keys[:, 0], keys[:, 13]
    field2, field3, field4, field6 = _u32(keys, 1), _u32(keys, 5), _u32(keys, 9), _u32(keys, 14)
    rel_block = (field1 == 0) & (field4 != 0) & (field6 != SIZE_FIELD)
    slru_block = (field1 == 1) & (field3 == 1) & (field6 != SIZE_FIELD)
    slru_size = (field1 == 1) & (field2 < 3) & (field3 == 1) & (field5 == 0) & (field6 == SIZE_FIELD)
    slru_dir = (field1 == 1) & (field3 == 0) & (field4 == 0) & (field5 == 0) & (field6 == 0)
    shard_zero_only = slru_block | slru_size | slru_dir | (field1 == _AUX_FILE)
    hashed = rel_block & (field5 != Fork.INIT)
    owner = np.where(hashed, shards_of_blocks(field4, field6, shard), np.uint32(0))
    disposable: Mask = (rel_block | shard_zero_only) & (owner != shard.number)
    return disposable


def shards_of_blocks(
    relnodes: npt.NDArray[np.uint32], blocks: npt.NDArray[np.uint32], shard: ShardIdentity
) -> npt.NDArray[np.uint32]:
    """The shard that each block of a main, fsm or vm fork hashes to; both arrays of one shape."""
    a = _murmurhash32(relnodes)
    b = _murmurhash32(blocks // np.uint32(shard.stripe_size))
    b += np.uint32(0x9E3779B9) + (a << np.uint32(6)) + (a >> np.uint32(2))
    return (a ^ b) % np.uint32(shard.count)


def _murmurhash32(h: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    h = h ^ h >> np.uint32(16)
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    return h


def _u32(keys: Keys, offset: int) -> npt.NDArray[np.uint32]:
    field = np.ascontiguousarray(keys[:, offset : offset + 4])
    return field.view(">u4").reshape(-1).astype(np.uint32)


def _big_endian(values: npt.NDArray[np.uint32]) -> Keys:
    return values.astype(">u4").view(np.uint8).reshape(-1, 4)
