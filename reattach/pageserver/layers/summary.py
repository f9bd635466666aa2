"""The first block of an image layer file: what it is and where its index stands."""

from __future__ import annotations

import struct
from typing import NamedTuple

from reattach.api.ids import TenantId, TimelineId
from reattach.api.key import KEY_SIZE, Key, KeyRange
from reattach.api.layer_name import LayerName
from reattach.api.lsn import Lsn
from reattach.pageserver.layers.checksum import BLOCK_SIZE
from reattach.pageserver.layers.errors import LayerCorrupted

_MAGIC = 0x5A60
_FORMAT_VERSION = 3
_LAYOUT = struct.Struct(f">HH16s16s{KEY_SIZE}s{KEY_SIZE}sQII")


class Summary(NamedTuple):
    """`index_root_blk` counts from `index_start_blk`; blocks have 8192 bytes."""

    tenant_id: TenantId
    timeline_id: TimelineId
    name: LayerName
    index_start_blk: int
    index_root_blk: int

    def to_block(self) -> bytes:
        keys = self.name.key_range
        return _LAYOUT.pack(
            _MAGIC,
            _FORMAT_VERSION,
            self.tenant_id.id,
            self.timeline_id.id,
            keys.start.to_bytes(),
            keys.end.to_bytes(),
            self.name.lsn.lsn_int,
            self.index_start_blk,
            self.index_root_blk,
        ).ljust(BLOCK_SIZE, b"\0")

    @classmethod
    def from_block(cls, block: bytes) -> Summary:
        """Raises LayerCorrupted."""
        if len(block) < _LAYOUT.size:
            raise LayerCorrupted(f"a layer's first block has {len(block)} bytes")
        magic, version, tenant, timeline, start, end, lsn, index_start, root = _LAYOUT.unpack_from(block)
        if (magic, version) != (_MAGIC, _FORMAT_VERSION):
            raise LayerCorrupted(f"not an image layer: magic {magic:#06x}, format version {version}")
        return cls(
            TenantId.from_bytes(tenant),
            TimelineId.from_bytes(timeline),
            LayerName(KeyRange(Key.from_bytes(start), Key.from_bytes(end)), Lsn(lsn)),
            index_start,
            root,
        )
