"""Postgres' page checksums, of many pages at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reattach.api.key import BLCKSZ
from reattach.pageserver.layers.blobs import Buffer

_LANES = 32
_PRIME = np.uint32(16777619)
_OFFSETS = np.array(
    [
        0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
        0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
        0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
        0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
    ],
    np.uint32,
)  # fmt: skip
_CHECKSUM_AT = 8
_UPPER_AT = 14


def first_bad_page(pages: Buffer, blocks: npt.NDArray[np.uint32]) -> int | None:
    """The index of the first page whose checksum is wrong, None if all are right.

    `blocks` are the numbers of the pages in their relation forks. Pages that were never initialised have no
    checksum.
    """
    words = np.frombuffer(pages, "<u2").reshape(-1, BLCKSZ // 2)
    stored = words[:, _CHECKSUM_AT // 2]
    is_new = words[:, _UPPER_AT // 2] == 0
    bad = (page_checksums(pages, blocks) != stored) & ~is_new
    return int(np.argmax(bad)) if bad.any() else None


def page_checksums(pages: Buffer, blocks: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint16]:
    """What the checksum of each page must be, whatever it is."""
    lanes = np.frombuffer(pages, "<u4").reshape(-1, BLCKSZ // 4 // _LANES, _LANES)
    # The checksum is computed as if its own field were zero.
    first_row = lanes[:, 0].copy()
    first_row[:, _CHECKSUM_AT // 4] &= np.uint32(0xFFFF0000)
    sums = np.broadcast_to(_OFFSETS, first_row.shape)
    for row in range(lanes.shape[1]):
        sums = _mix(sums, lanes[:, row] if row else first_row)
    zero = np.uint32(0)
    for _ in range(2):
        sums = _mix(sums, zero)
    folded = np.bitwise_xor.reduce(sums, axis=1) ^ blocks
    checksums: npt.NDArray[np.uint16] = (folded % np.uint32(65535) + np.uint32(1)).astype(np.uint16)
    return checksums


def _mix(sums: npt.NDArray[np.uint32], value: npt.NDArray[np.uint32] | np.uint32) -> npt.NDArray[np.uint32]:
    mixed = sums ^ value
    return mixed * _PRIME ^ mixed >> np.uint32(17)
