"""Many keys at a time: arrays of shape (n, 18), dtype uint8, a key's byte form per row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from reattach.api.key import KEY_SIZE, SIZE_FIELD, Fork, Key
from reattach.api.shard import ShardIdentity

Keys: TypeAlias = npt.NDArray[np.uint8]
Mask: TypeAlias = npt.NDArray[np.bool_]

Numbers: TypeAlias = npt.NDArray[np.int64]

_FIELDS = np.dtype("u1,>u4,>u4,>u4,u1,>u4")

_AUX_FILE = 0x62


def as_keys(many: Iterable[Key]) -> Keys:
    """A row for each key."""
    return np.frombuffer(b"".join([key.to_bytes() for key in many]), np.uint8).reshape(-1, KEY_SIZE)


def key_of(row: Keys) -> Key:
    """The key that a row is."""
    return Key.from_bytes(row.tobytes())


def rel_keys(spcnode: int, dbnode: int, relnodes: Numbers, forks: Numbers, blocks: Numbers) -> Keys:
    """The keys of blocks of a database's relations."""
    keys = np.zeros(len(relnodes), _FIELDS)
    keys["f1"], keys["f2"] = spcnode, dbnode
    keys["f3"], keys["f4"], keys["f5"] = relnodes, forks, blocks
    return keys.view(np.uint8).reshape(-1, KEY_SIZE)


def advanced(keys: Keys, blocks: Numbers) -> Keys:
    """Each key so many blocks later, in the same fork."""
    later = keys.copy()
    later[:, 14:] = _big_endian(blocks_of(keys) + blocks.astype(np.uint32))
    return later


def expand_runs(firsts: Keys, counts: Numbers) -> Keys:
    """Every key of the runs, in their order: so many keys, block by block, from each of `firsts` on."""
    rows = np.repeat(np.arange(len(counts)), counts)
    return advanced(firsts[rows], np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows])


def blocks_of(keys: Keys) -> npt.NDArray[np.uint32]:
    """`field6` of every key."""
    return _u32(keys, 14)


def relnodes_of(keys: Keys) -> npt.NDArray[np.uint32]:
    """`field4` of every key."""
    return _u32(keys, 9)


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
