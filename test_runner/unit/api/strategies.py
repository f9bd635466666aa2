"""Random values of the vocabulary."""

from __future__ import annotations

from hypothesis import strategies as st

from reattach.api.ids import TenantId, TenantShardId, TimelineId
from reattach.api.key import Fork, Key, KeyRange, RelTag, SlruKind, relmap_key, slru_block_key, slru_dir_key
from reattach.api.lsn import Lsn
from reattach.api.shard import ShardIdentity

u8 = st.integers(0, 0xFF)
u32 = st.integers(0, 0xFFFFFFFF)
# Small numbers and both ends, so that carries and neighbours are met.
edgy_u32 = st.one_of(st.integers(0, 3), st.integers(0xFFFFFFFC, 0xFFFFFFFF), u32)
edgy_u8 = st.one_of(st.integers(0, 3), st.integers(252, 255))

keys = st.builds(Key, edgy_u8, edgy_u32, edgy_u32, edgy_u32, edgy_u8, edgy_u32)
lsns = st.integers(0, 2**64 - 1).map(Lsn)
ids = st.binary(min_size=16, max_size=16)
tenant_ids = ids.map(TenantId.from_bytes)
timeline_ids = ids.map(TimelineId.from_bytes)

shards = st.one_of(
    st.builds(ShardIdentity, stripe_size=st.integers(1, 5000)),
    st.sampled_from([1, 2, 3, 4, 8, 255]).flatmap(
        lambda count: st.builds(
            ShardIdentity, st.integers(0, count - 1), st.just(count), st.integers(1, 5000)
        )
    ),
)

tenant_shard_ids = st.builds(
    lambda tenant, shard: TenantShardId(tenant, shard.number, shard.count), tenant_ids, shards
)

rel_tags = st.builds(
    RelTag,
    st.sampled_from([1663, 1664]),
    st.integers(0, 20),
    st.integers(1, 0xFFFFFFFF),
    st.sampled_from([int(fork) for fork in Fork]),
)


# What keys of timelines look like: random fields hardly ever make one.
timeline_keys = st.one_of(
    keys,
    st.builds(RelTag.block, rel_tags, st.one_of(st.integers(0, 50_000), edgy_u32)),
    st.builds(slru_block_key, st.sampled_from(SlruKind), st.integers(0, 100), edgy_u32),
    st.builds(slru_dir_key, st.sampled_from(SlruKind)),
    st.builds(relmap_key, st.just(1663), st.integers(0, 20)),
    st.builds(Key, st.just(0x62), edgy_u32, edgy_u32, edgy_u32, edgy_u8, edgy_u32),
)


def rel_block_ranges(max_blocks: int = 2000) -> st.SearchStrategy[KeyRange]:
    """Ranges of blocks of one relation fork, empty ones too."""
    return st.builds(
        lambda rel, first, count: rel.blocks(first, first + count),
        rel_tags,
        st.integers(0, 300_000),
        st.integers(0, max_blocks),
    )
