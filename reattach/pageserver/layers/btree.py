"""The disk B-tree that maps a layer's keys to the file offsets of their values: writing.

The bytes are those of appending the keys one by one to a stack of open nodes. A leaf's extent follows from
the keys alone, so leaves are cut and encoded whole, and only their parents are appended to one by one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from reattach.api.key import KEY_SIZE
from reattach.pageserver.layers.checksum import BLOCK_SIZE
from reattach.pageserver.layers.key_arrays import Keys

NODE_HEADER = struct.Struct(">HBBB")
"""Number of children, level, length of the common prefix, length of the suffixes."""

VALUE_SIZE = 5
MAX_OFFSET = 0x7FFFFFFFFF
CHILD_TAG = 0x80
"""First byte of an inner node's value; a block number follows."""

_ROOM = BLOCK_SIZE - 1 - NODE_HEADER.size
_UNCOMPRESSED_ENTRIES = _ROOM // (KEY_SIZE + VALUE_SIZE)


def build(keys: Keys, offsets: npt.NDArray[np.uint64]) -> list[bytes]:
    """The tree's blocks; the root is the last.

    `keys` ascend strictly and are at least one; `offsets`, one per key, are at most MAX_OFFSET.
    Raises ValueError.
    """
    if len(keys) == 0:
        raise ValueError("a tree has at least one key")
    if int(offsets.max()) > MAX_OFFSET:
        raise ValueError(f"offset {int(offsets.max())} does not fit 39 bits")
    tree = _Tree()
    values = offsets.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 8 - VALUE_SIZE :]
    first = 0
    while first < len(keys):
        count, prefix_len = _leaf_extent(keys[first:])
        end = first + count
        block = _encode_node(
            0, keys[first, :prefix_len].tobytes(), keys[first:end, prefix_len:].tobytes(), values[first:end]
        )
        if first == 0 and end == len(keys):
            return [block]
        tree.add_child(0, keys[first].tobytes(), block)
        first = end
    return tree.finish()


def _leaf_extent(keys: Keys) -> tuple[int, int]:
    """How many of `keys` the next leaf takes, and how long the prefix is that it cuts off them."""
    if len(keys) <= _UNCOMPRESSED_ENTRIES:
        return len(keys), 0
    # Full. Its keys ascend, so what its first and last have in common, all have.
    same = keys[0] == keys[_UNCOMPRESSED_ENTRIES - 1]
    prefix_len = int(np.argmin(same))
    if prefix_len == 0:
        return _UNCOMPRESSED_ENTRIES, 0
    capacity = (_ROOM - prefix_len) // (KEY_SIZE - prefix_len + VALUE_SIZE)
    candidates = keys[_UNCOMPRESSED_ENTRIES:capacity, :prefix_len]
    fitting = (candidates == keys[0, :prefix_len]).all(axis=1)
    taken = len(fitting) if fitting.all() else int(np.argmin(fitting))
    return _UNCOMPRESSED_ENTRIES + taken, prefix_len


def _encode_node(level: int, prefix: bytes, suffixes: bytes, values: npt.NDArray[np.uint8] | bytes) -> bytes:
    value_bytes = values if isinstance(values, bytes) else values.tobytes()
    header = NODE_HEADER.pack(len(value_bytes) // VALUE_SIZE, level, len(prefix), KEY_SIZE - len(prefix))
    return b"".join((header, prefix, suffixes, value_bytes)).ljust(BLOCK_SIZE, b"\0")


@dataclass(slots=True)
class _InnerNode:
    level: int
    prefix: bytes = b""
    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)

    def push(self, key: bytes, value: bytes) -> bool:
        entry = KEY_SIZE - len(self.prefix) + VALUE_SIZE
        if not key.startswith(self.prefix) or len(self.prefix) + (len(self.keys) + 1) * entry > _ROOM:
            return False
        self.keys.append(key)
        self.values.append(value)
        return True

    def compress(self) -> bool:
        first, last = self.keys[0], self.keys[-1]
        common = next((i for i in range(KEY_SIZE) if first[i] != last[i]), KEY_SIZE)
        grown = common > len(self.prefix)
        self.prefix = first[:common]
        return grown

    def encode(self) -> bytes:
        cut = len(self.prefix)
        return _encode_node(
            self.level, self.prefix, b"".join(key[cut:] for key in self.keys), b"".join(self.values)
        )


class _Tree:
    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._open: list[_InnerNode] = []

    def add_child(self, level: int, first_key: bytes, block: bytes) -> None:
        """Writes the block of a node of `level` and adds it to its parent."""
        value = bytes((CHILD_TAG,)) + len(self._blocks).to_bytes(4)
        self._blocks.append(block)
        if level == len(self._open):
            self._open.append(_InnerNode(level + 1))
        parent = self._open[level]
        if parent.push(first_key, value) or (parent.compress() and parent.push(first_key, value)):
            return
        self.add_child(level + 1, parent.keys[0], parent.encode())
        self._open[level] = _InnerNode(level + 1, b"", [first_key], [value])

    def finish(self) -> list[bytes]:
        level = 0
        while level < len(self._open) - 1:
            node = self._open[level]
            level += 1
            self.add_child(level, node.keys[0], node.encode())
        self._blocks.append(self._open[level].encode())
        return self._blocks
