"""What a pageserver cannot deliver is named as the data directory names it."""

from __future__ import annotations

import pytest

from reattach.api.key import BLCKSZ, RELSEG_BLOCKS, Key, KeyRange, RelTag, SlruKind, slru_block_key
from reattach.fixtures.backup.unreadable import describe_key, first_place, missing_key, unreadable_layer

TABLE = RelTag(1663, 5, 16384, 0)
SIZES = {
    "base/5/16384": RELSEG_BLOCKS * BLCKSZ,
    "base/5/16384.1": 3 * BLCKSZ,
    "base/5/pg_filenode.map": 512,
    "global/pg_control": 8192,
    "pg_xact/0000": 2 * BLCKSZ,
    "postgresql.conf": 5,
}


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (TABLE.block(7), "base/5/16384, block 7 "),
        (TABLE.block(RELSEG_BLOCKS + 2), "base/5/16384.1, block 2 "),
        (TABLE.block(RELSEG_BLOCKS + 3), "key {key}, which is no block of a file"),
        (TABLE.size_key(), "base/5/16384, from block 0 on (key {key} is its size)"),
        (slru_block_key(SlruKind.CLOG, 0, 1), "pg_xact/0000, block 1 "),
        (Key(0, 1663, 5, 0, 0, 0), "base/5/pg_filenode.map, block 0 "),
        (Key(0, 0, 0, 0, 0, 0), "key {key}, which is no block of a file"),
    ],
)
def test_a_key_is_a_block_of_a_file(key: Key, words: str) -> None:
    assert describe_key(SIZES, key).startswith(words.format(key=key))


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (Key(0, 0, 0, 0, 0, 0), TABLE.block(9), "base/5/pg_filenode.map, block 0"),
        (TABLE.block(5), TABLE.block(9), "base/5/16384, block 5"),
        (TABLE.block(RELSEG_BLOCKS - 1), TABLE.block(RELSEG_BLOCKS + 9), "base/5/16384, block 131071"),
        (TABLE.block(RELSEG_BLOCKS), slru_block_key(SlruKind.CLOG, 1, 0), "base/5/16384.1, block 0"),
        (Key(1, 0, 0, 0, 0, 0), Key(4, 0, 0, 0, 0, 0), "pg_xact/0000, block 0"),
    ],
)
def test_a_range_begins_with_a_block(start: Key, end: Key, words: str) -> None:
    assert str(first_place(SIZES, KeyRange(start, end))).startswith(words)


def test_a_range_without_a_block() -> None:
    assert first_place(SIZES, KeyRange(Key(9, 0, 0, 0, 0, 0), Key(10, 0, 0, 0, 0, 0))) is None


def test_reasons_of_both_engines() -> None:
    key = TABLE.block(7)
    built_in = f"could not find data for key {key} (shard 0000, LSN 0/1, no layer covers it)"
    public = (
        f"could not find data for key [{key}..{key.next()},] (shard ShardNumber(0)), original HWM LSN 0/1"
    )
    assert missing_key(built_in) == missing_key(public) == key
    layer = f"{key}-{key.next()}__0000000001517E98"
    assert str(unreadable_layer(f"cannot read layer {layer} of shard 0000")) == layer
    assert missing_key("no such tenant") is None and unreadable_layer("no such tenant") is None
