"""Which shard of a tenant keeps which key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from reattach.api.ids import ShardIndex
from reattach.api.key import Fork, Key, KeyRange

DEFAULT_STRIPE_SIZE = 2048
"""Pages of a stripe: 16 MiB."""

_U32 = 0xFFFFFFFF


@lru_cache(maxsize=1 << 14)  # every shard of a process asks for the same relations and stripes
def murmurhash32(h: int) -> int:
    """The 32-bit finaliser of MurmurHash."""
    h ^= h >> 16
    h = h * 0x85EBCA6B & _U32
    h ^= h >> 13
    h = h * 0xC2B2AE35 & _U32
    return h ^ h >> 16


def hash_combine(a: int, b: int) -> int:
    """Postgres' hash_combine on 32 bits."""
    return a ^ (b + 0x9E3779B9 + (a << 6 & _U32) + (a >> 2) & _U32)


@dataclass(frozen=True, slots=True)
class ShardIdentity:
    """A shard's place in its tenant: number, count (0: unsharded) and stripe size in pages."""

    number: int = 0
    count: int = 0
    stripe_size: int = DEFAULT_STRIPE_SIZE

    def __post_init__(self) -> None:
        ShardIndex(self.number, self.count)
        if not 0 < self.stripe_size <= _U32:
            raise ValueError(f"Invalid stripe size: {self.stripe_size}")

    @property
    def index(self) -> ShardIndex:
        return ShardIndex(self.number, self.count)

    def shard_of(self, key: Key) -> int:
        """The number of the shard that a rel block key hashes to; 0 for keys that only shard 0 can own."""
        if self.count < 2 or not key.is_rel_block or key.field5 == Fork.INIT:
            return 0
        stripe = key.field6 // self.stripe_size
        return hash_combine(murmurhash32(key.field4), murmurhash32(stripe)) % self.count

    def is_local(self, key: Key) -> bool:
        """Whether this shard is the one that owns the key."""
        return self.count < 2 or self.shard_of(key) == self.number

    def is_disposable(self, key: Key) -> bool:
        """Whether this shard has no use for the key."""
        return self.count >= 2 and not is_global(key) and not self.is_local(key)

    def local_runs(self, keys: KeyRange) -> Iterator[tuple[int, int]]:
        """The block runs `(first, end)` of a rel block range that this shard keeps, longest possible.

        Works a stripe at a time, so its cost does not depend on how many pages a stripe has.
        """
        first, end = keys.start.field6, keys.end.field6
        if self.count < 2:
            if first < end:
                yield first, end
            return
        run_start = run_end = first
        block = first
        while block < end:
            stripe_end = min(block - block % self.stripe_size + self.stripe_size, end)
            stripe_start = keys.start if block == first else keys.start._replace(field6=block)
            if self.shard_of(stripe_start) == self.number:
                if block != run_end:
                    if run_start < run_end:
                        yield run_start, run_end
                    run_start = block
                run_end = stripe_end
            block = stripe_end
        if run_start < run_end:
            yield run_start, run_end


def is_global(key: Key) -> bool:
    """Whether every shard keeps a copy of the key."""
    shard_zero_only = key.is_slru_block or key.is_slru_segment_size or key.is_slru_dir or key.is_aux_file
    return not (shard_zero_only or key.is_rel_block)
