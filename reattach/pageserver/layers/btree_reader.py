"""The disk B-tree that maps a layer's keys to the file offsets of their values: reading."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reattach.api.key import KEY_SIZE
from reattach.pageserver.layers.btree import CHILD_TAG, NODE_HEADER, VALUE_SIZE
from reattach.pageserver.layers.checksum import BLOCK_SIZE
from reattach.pageserver.layers.errors import LayerCorrupted
from reattach.pageserver.layers.key_arrays import Keys, sortable

ReadBlock = Callable[[int], bytes]
"""Reads the tree's block of that number."""


class Node(NamedTuple):
    """A checked node. `keys` has shape (n, 18); `values` are offsets in a leaf, block numbers above."""

    level: int
    keys: Keys
    values: npt.NDArray[np.uint64]


class Position(NamedTuple):
    """Where a value starts, and where the next one of the same leaf starts (None for a leaf's last)."""

    offset: int
    end: int | None


class BtreeReader:
    """Finds keys in a tree whose root is block `root`. Raises LayerCorrupted for what cannot be a tree."""

    def __init__(self, read_block: ReadBlock, root: int) -> None:
        self._read_block = read_block
        self._root = root
        self._inner: dict[int, Node] = {}

    def find(self, key: bytes) -> Position | None:
        """Reads one block per level; those above the leaves only the first time."""
        block, first_key, level = self._root, None, None
        while True:
            node = self._node(block)
            self._check_descent(node, block, first_key, level)
            row = int(np.searchsorted(sortable(node.keys), np.bytes_(key), side="right")) - 1
            if node.level == 0:
                if row < 0 or node.keys[row].tobytes() != key:
                    return None
                following = node.values[row + 1 : row + 2].tolist()
                return Position(int(node.values[row]), following[0] if following else None)
            row = max(row, 0)
            first_key, level = node.keys[row].tobytes(), node.level
            block = self._child(node, row, block)

    def load(self) -> tuple[Keys, npt.NDArray[np.uint64]]:
        """Every key, shape (n, 18), and its offset; both ascend strictly."""
        leaves: list[Node] = []
        blocks_seen = self._collect(self._root, None, None, leaves)
        if blocks_seen != self._root + 1:
            raise LayerCorrupted(f"{blocks_seen} of {self._root + 1} index blocks are in the tree")
        keys = np.concatenate([leaf.keys for leaf in leaves])
        offsets = np.concatenate([leaf.values for leaf in leaves])
        if not _ascends(sortable(keys)) or not _ascends(offsets):
            raise LayerCorrupted("keys or offsets of the index do not ascend")
        return keys, offsets

    def _collect(self, block: int, first_key: bytes | None, level: int | None, leaves: list[Node]) -> int:
        node = self._node(block)
        self._check_descent(node, block, first_key, level)
        if node.level == 0:
            leaves.append(node)
            return 1
        seen = 1
        for row in range(len(node.keys)):
            child = self._child(node, row, block)
            seen += self._collect(child, node.keys[row].tobytes(), node.level, leaves)
        return seen

    def _node(self, block: int) -> Node:
        node = self._inner.get(block)
        if node is None:
            node = parse_node(self._read_block(block), block)
            if node.level:
                self._inner[block] = node
        return node

    @staticmethod
    def _check_descent(node: Node, block: int, first_key: bytes | None, parent_level: int | None) -> None:
        if parent_level is not None and node.level != parent_level - 1:
            raise LayerCorrupted(f"index block {block} has level {node.level} below level {parent_level}")
        if first_key is not None and node.keys[0].tobytes() != first_key:
            raise LayerCorrupted(f"index block {block} does not start with the key that its parent gives")

    @staticmethod
    def _child(node: Node, row: int, block: int) -> int:
        child = int(node.values[row])
        # A node is written after its children, which also rules out cycles.
        if child >= block:
            raise LayerCorrupted(f"index block {block} refers to block {child}, which comes after it")
        return child


def parse_node(raw: bytes, block: int) -> Node:
    """Reads one node. Raises LayerCorrupted."""
    if len(raw) != BLOCK_SIZE:
        raise LayerCorrupted(f"index block {block} has {len(raw)} bytes")
    count, level, prefix_len, suffix_len = NODE_HEADER.unpack_from(raw)
    keys_at = NODE_HEADER.size + prefix_len
    values_at = keys_at + count * suffix_len
    end = values_at + count * VALUE_SIZE
    if count == 0 or prefix_len + suffix_len != KEY_SIZE or end >= BLOCK_SIZE:
        raise LayerCorrupted(
            f"index block {block} is no tree node: {count} keys of {prefix_len}+{suffix_len}"
        )
    if any(raw[end:]):
        raise LayerCorrupted(f"index block {block} has bytes after its last value")
    block_bytes = np.frombuffer(raw, np.uint8)
    keys = np.empty((count, KEY_SIZE), np.uint8)
    keys[:, :prefix_len] = block_bytes[NODE_HEADER.size : keys_at]
    keys[:, prefix_len:] = block_bytes[keys_at:values_at].reshape(count, suffix_len)
    padded = np.zeros((count, 8), np.uint8)
    padded[:, 8 - VALUE_SIZE :] = block_bytes[values_at:end].reshape(count, VALUE_SIZE)
    tag = CHILD_TAG if level else 0
    tag_bits = 0xFF if level else CHILD_TAG
    if (padded[:, 8 - VALUE_SIZE] & tag_bits != tag).any():
        raise LayerCorrupted(f"index block {block} has a value of the wrong kind for level {level}")
    if level:
        padded[:, 8 - VALUE_SIZE] = 0
    values = padded.view(">u8").reshape(-1).astype(np.uint64)
    if not _ascends(sortable(keys)) or not _ascends(values):
        raise LayerCorrupted(f"keys or values of index block {block} do not ascend")
    return Node(level, keys, values)


def _ascends(values: npt.NDArray[Any]) -> bool:
    return bool((values[:-1] < values[1:]).all())
