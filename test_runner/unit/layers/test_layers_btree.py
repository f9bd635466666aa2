"""The disk B-tree: byte-identical to appending one by one; every key is found; nothing else is."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reattach.api.key import Key
from reattach.pageserver.layers import btree
from reattach.pageserver.layers.btree_reader import BtreeReader
from reattach.pageserver.layers.errors import LayerCorrupted
from reattach.pageserver.layers.key_arrays import as_keys, expand_runs
from test_runner.unit.api.strategies import keys

NODE = 8192


@dataclass
class OneByOneNode:
    """An open node, as the format's description has it."""

    level: int
    size: int = 5
    prefix: bytes = b""
    suffix_len: int = 18
    suffixes: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)

    def push(self, key: bytes, value: bytes) -> bool:
        if self.suffixes and not key.startswith(self.prefix):
            return False
        if self.size + self.suffix_len + 5 >= NODE:
            return False
        self.suffixes.append(key[len(self.prefix) :])
        self.values.append(value)
        self.size += self.suffix_len + 5
        return True

    def compress(self) -> bool:
        first, last = self.suffixes[0], self.suffixes[-1]
        common = 0
        while common < self.suffix_len and first[common] == last[common]:
            common += 1
        if common == 0:
            return False
        self.prefix += first[:common]
        self.suffixes = [suffix[common:] for suffix in self.suffixes]
        self.suffix_len -= common
        self.size += common - common * len(self.suffixes)
        return True

    def pack(self) -> bytes:
        header = struct.pack(">HBBB", len(self.suffixes), self.level, len(self.prefix), self.suffix_len)
        return (header + self.prefix + b"".join(self.suffixes) + b"".join(self.values)).ljust(NODE, b"\0")


class OneByOneTree:
    """The format's append procedure, one key at a time."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.stack = [OneByOneNode(0)]

    def append(self, key: bytes, value: bytes) -> None:
        node = self.stack[-1]
        if node.push(key, value) or (node.compress() and node.push(key, value)):
            return
        self.flush()
        fresh = OneByOneNode(node.level)
        assert fresh.push(key, value)
        self.stack.append(fresh)

    def flush(self) -> None:
        node = self.stack.pop()
        block = len(self.blocks)
        self.blocks.append(node.pack())
        if not self.stack:
            self.stack.append(OneByOneNode(node.level + 1))
        self.append(node.prefix + node.suffixes[0], b"\x80" + block.to_bytes(4))

    def finish(self) -> list[bytes]:
        while len(self.stack) > 1:
            self.flush()
        self.blocks.append(self.stack[0].pack())
        return self.blocks


def one_by_one(key_bytes: list[bytes], offsets: list[int]) -> list[bytes]:
    tree = OneByOneTree()
    for key, offset in zip(key_bytes, offsets, strict=True):
        tree.append(key, offset.to_bytes(5))
    return tree.finish()


def as_array(key_bytes: list[bytes]) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.frombuffer(b"".join(key_bytes), np.uint8).reshape(-1, 18)


@st.composite
def many_keys(draw: st.DrawFn) -> list[bytes]:
    """Runs of blocks between scattered keys, so that nodes have long prefixes, short ones and none."""
    runs = draw(st.lists(st.tuples(keys, st.integers(1, 1500)), min_size=1, max_size=8))
    found: set[bytes] = set()
    for key, count in runs:
        first = min(key.field6, 0xFFFFFFFF - count)
        found.update(key._replace(field6=first + i).to_bytes() for i in range(count))
    return sorted(found)


@settings(max_examples=40)
@given(many_keys())
def test_blocks_are_those_of_appending_one_by_one(key_bytes: list[bytes]) -> None:
    offsets = list(range(8192, 8192 + 100 * len(key_bytes), 100))
    built = btree.build(as_array(key_bytes), np.array(offsets, np.uint64))
    assert built == one_by_one(key_bytes, offsets)


@pytest.mark.parametrize("count", [1, 2, 354, 355, 356, 371, 372, 373, 710, 711])
@pytest.mark.parametrize("spread", ["dense", "sparse"])
def test_blocks_at_the_edges_of_a_leaf(count: int, spread: str) -> None:
    rng = random.Random(count)
    if spread == "dense":
        key_bytes = [Key(0, 1663, 5, 16384, 0, i).to_bytes() for i in range(count)]
    else:
        key_bytes = sorted(rng.randbytes(18) for _ in range(count))
    offsets = list(range(8192, 8192 + count))
    assert btree.build(as_array(key_bytes), np.array(offsets, np.uint64)) == one_by_one(key_bytes, offsets)


@pytest.mark.parametrize("prefix_len", [1, 10, 14])
def test_nodes_that_a_prefix_fills_to_the_last_byte(prefix_len: int) -> None:
    """Leaves with a prefix of 10, inner nodes with one of 14 bytes, can be full without a byte to spare."""
    rng = random.Random(prefix_len)
    first = 1 << (8 * (18 - prefix_len) - 1)
    suffixes = sorted(rng.sample(range(first - 2000, first + 2000), 2500))
    key_bytes = [b"p" * prefix_len + suffix.to_bytes(18 - prefix_len) for suffix in suffixes]
    offsets = list(range(8192, 8192 + len(key_bytes)))
    assert btree.build(as_array(key_bytes), np.array(offsets, np.uint64)) == one_by_one(key_bytes, offsets)

    reference = OneByOneTree()
    reference.stack = [OneByOneNode(1)]
    built = btree._Tree()
    for key in key_bytes:
        reference.blocks.append(b"leaf")
        reference.append(key, b"\x80" + (len(reference.blocks) - 1).to_bytes(4))
        built.add_child(0, key, b"leaf")
    assert built.finish() == reference.finish()


def test_a_lookup_notices_keys_out_of_order() -> None:
    key_bytes = [Key(0, 1663, 5, 16384, 0, i).to_bytes() for i in range(10)]
    (leaf,) = btree.build(as_array(key_bytes), np.arange(8192, 8202, dtype=np.uint64))
    swapped = leaf.replace(key_bytes[3] + key_bytes[4], key_bytes[4] + key_bytes[3])
    assert swapped != leaf
    with pytest.raises(LayerCorrupted, match="do not ascend"):
        BtreeReader(lambda _: swapped, 0).find(key_bytes[7])


def test_a_segment_needs_inner_nodes_and_is_still_the_same() -> None:
    rng = random.Random(7)
    key_bytes = sorted({rng.randbytes(3) + bytes(11) + rng.randbytes(4) for _ in range(140_000)})
    offsets = list(range(8192, 8192 + len(key_bytes)))
    blocks = btree.build(as_array(key_bytes), np.array(offsets, np.uint64))
    assert blocks == one_by_one(key_bytes, offsets)
    assert blocks[-1][2] == 2, "three levels"


@settings(max_examples=20)
@given(many_keys(), st.lists(keys, max_size=20))
def test_every_key_is_found_with_one_read_per_level(key_bytes: list[bytes], others: list[Key]) -> None:
    offsets = np.arange(8192, 8192 + len(key_bytes), dtype=np.uint64)
    blocks = btree.build(as_array(key_bytes), offsets)
    reads: list[int] = []

    def read_block(number: int) -> bytes:
        reads.append(number)
        return blocks[number]

    reader = BtreeReader(read_block, len(blocks) - 1)
    positions = {key: 8192 + i for i, key in enumerate(key_bytes)}
    sample = random.Random(1).sample(key_bytes, min(len(key_bytes), 30))
    for key in [*sample, *(other.to_bytes() for other in others)]:
        reads.clear()
        found = reader.find(key)
        assert (found.offset if found else None) == positions.get(key)
        assert len(reads) <= blocks[-1][2] + 1
    loaded_keys, loaded_offsets = reader.load()
    assert loaded_keys.tobytes() == b"".join(key_bytes)
    assert loaded_offsets.tolist() == offsets.tolist()


@settings(max_examples=30)
@given(st.data())
def test_a_flipped_byte_is_noticed_or_the_order_still_holds(data: st.DataObject) -> None:
    """A changed key or offset between its neighbours is all that the tree alone cannot tell."""
    firsts = as_keys([Key(0, 1663, 5, 16384, 0, 0), Key(1, 0, 1, 0, 0, 5)])
    keys_array = expand_runs(firsts, np.array([900, 40]))
    offsets = np.arange(8192, 8192 + 100 * len(keys_array), 100, dtype=np.uint64)
    blocks = btree.build(keys_array, offsets)
    block = data.draw(st.integers(0, len(blocks) - 1))
    at = data.draw(st.integers(0, 8191))
    flipped = bytearray(blocks[block])
    flipped[at] ^= data.draw(st.integers(1, 255))
    blocks[block] = bytes(flipped)
    try:
        loaded_keys, loaded_offsets = BtreeReader(blocks.__getitem__, len(blocks) - 1).load()
    except LayerCorrupted:
        return
    changed_keys = int((loaded_keys != keys_array).any(axis=1).sum())
    changed_offsets = int((loaded_offsets != offsets).sum())
    assert changed_keys + changed_offsets == 1


def test_no_keys_and_too_large_offsets_are_refused() -> None:
    with pytest.raises(ValueError):
        btree.build(np.empty((0, 18), np.uint8), np.empty(0, np.uint64))
    with pytest.raises(ValueError):
        btree.build(as_array([bytes(18)]), np.array([1 << 39], np.uint64))
