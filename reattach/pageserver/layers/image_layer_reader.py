"""Reading an image layer file."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reattach.api.ids import TenantId, TimelineId
from reattach.api.key import BLCKSZ, Key, KeyRange
from reattach.api.layer_name import LayerName
from reattach.api.shard import ShardIdentity
from reattach.pageserver.layers import blob_reader
from reattach.pageserver.layers.blobs import HEADER_SIZE, Buffer
from reattach.pageserver.layers.btree_reader import BtreeReader
from reattach.pageserver.layers.checksum import BLOCK_SIZE, verify_file
from reattach.pageserver.layers.errors import LayerCorrupted
from reattach.pageserver.layers.key_arrays import Keys, disposable_mask, sortable
from reattach.pageserver.layers.summary import Summary

_FIND_BYTES = 256 << 10
"""`find` reads so much at once, or a whole value. Each read lets go of the interpreter's lock, and waiting
for that takes longer than reading what lies between two values."""

_GAP_BYTES = 64 << 10
"""So much that nobody asked for is read along for the same reason, and no more."""


class PageBatch(NamedTuple):
    """Pages and whose they are: `keys` has shape (n, 18), `pages` n times 8192 bytes."""

    keys: Keys
    pages: Buffer


class ImageLayerReader:
    """An open layer file. Threads may share it. Methods raise LayerCorrupted and OSError.

    Keys of the layer's range that it does not have do not exist: there is nothing below an image layer.
    """

    def __init__(
        self, path: Path, name: LayerName, tenant_id: TenantId, *, checksum: str | None = None
    ) -> None:
        """Opens a layer that must be of this name and tenant.

        With `checksum`, which the index records, the whole file is read once and compared, so that no byte of
        it can have changed. Without, only what is redundant in the format is checked, when it is read.
        """
        if checksum is not None:
            verify_file(path, checksum)
        self._path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._file_size = os.fstat(self._fd).st_size
            self._summary = self._read_summary(name, tenant_id)
        except BaseException:
            os.close(self._fd)
            raise
        self.name = name
        self._data_end = self._summary.index_start_blk * BLOCK_SIZE
        self._tree = BtreeReader(self._read_index_block, self._summary.index_root_blk)

    @property
    def timeline_id(self) -> TimelineId:
        return self._summary.timeline_id

    def close(self) -> None:
        """May be called again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> ImageLayerReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, key: Key) -> bytes | None:
        """The value of one key, None if the layer has none. Reads a block per tree level, and the value."""
        position = self._tree.find(key.to_bytes())
        if position is None:
            return None
        offset, end = position
        if not BLOCK_SIZE <= offset < self._data_end:
            raise self._corrupted(f"offset {offset} of key {key} lies outside of the values")
        # A page's blob is hardly ever longer than this, so one read will do.
        wanted = end - offset if end is not None else min(HEADER_SIZE + BLCKSZ, self._data_end - offset)
        blob = self._pread(offset, wanted)
        length = blob_reader.blob_length(blob)
        if (end is not None and length != len(blob)) or offset + length > self._data_end:
            raise self._corrupted(f"value of key {key} at {offset} has {length} bytes, up to {end}")
        if length > len(blob):
            blob += self._pread(offset + len(blob), length - len(blob))
        value = blob_reader.decode(blob[:length])
        if (key.is_rel_block or key.is_slru_block) and len(value) != BLCKSZ:
            raise self._corrupted(f"page of key {key} at {offset} has {len(value)} bytes")
        return value

    @property
    def keys(self) -> Keys:
        """Every key, ascending, shape (n, 18)."""
        return self._index[0]

    def scan_disposable(self, shard: ShardIdentity) -> tuple[int, int]:
        """How many keys the shard has no use for, and how many it keeps."""
        disposable = int(disposable_mask(self.keys, shard).sum())
        return disposable, len(self.keys) - disposable

    def values(self, keys: KeyRange) -> Iterator[tuple[Key, bytes]]:
        """The keys of the range that the layer has, and their values, one by one."""
        ((first, end),) = self._rows([keys])
        for row in range(first, end):
            blob = self._pread(int(self._ends[row]), int(self._ends[row + 1] - self._ends[row]))
            yield Key.from_bytes(self.keys[row].tobytes()), self._value(row, blob)

    def find(self, keys: Sequence[Key]) -> dict[Key, bytes]:
        """The values of those keys that the layer has. What lies close together is read at once."""
        wanted = np.array([key.to_bytes() for key in keys], self._sortable_keys.dtype)
        rows = np.minimum(np.searchsorted(self._sortable_keys, wanted), len(self.keys) - 1)
        present = np.flatnonzero(self._sortable_keys[rows] == wanted)
        found = {}
        chunk, chunk_start, chunk_end = b"", 0, 0
        ordered = present[np.argsort(rows[present], kind="stable")]
        ends = self._ends[rows[ordered] + 1].tolist()
        for at, (index, end) in enumerate(zip(ordered.tolist(), ends, strict=True)):
            row = int(rows[index])
            start = int(self._ends[row])
            if end > chunk_end:
                chunk_start, chunk_end = start, ends[bisect_right(ends, start + _FIND_BYTES, lo=at + 1) - 1]
                chunk = self._pread(chunk_start, chunk_end - chunk_start)
            found[keys[index]] = self._value(row, chunk[start - chunk_start : end - chunk_start])
        return found

    def _value(self, row: int, blob: bytes) -> bytes:
        """`blob`: all bytes up to the next value, or to the index."""
        length = blob_reader.blob_length(blob)
        is_last = row + 1 == len(self.keys)
        if length != len(blob) and not (is_last and length < len(blob)):
            raise self._corrupted(f"value in row {row} has {length} bytes, not {len(blob)}")
        return blob_reader.decode(blob[:length])

    def pages(self, runs: Sequence[KeyRange]) -> PageBatch:
        """Those pages of the runs that the layer has, in their order; the runs have only keys of pages.

        All are in memory at once: the caller bounds how many it asks for.
        """
        rows = np.concatenate([np.arange(first, end) for first, end in self._rows(runs)])
        starts, ends = self._ends[rows].astype(np.int64), self._ends[rows + 1].astype(np.int64)
        if not len(rows):
            return PageBatch(self.keys[:0], b"")
        gaps = starts[1:] - ends[:-1]
        cuts = np.flatnonzero((gaps < 0) | (gaps > _GAP_BYTES)) + 1
        decoded = []
        for first, end in pairwise((0, *cuts.tolist(), len(rows))):
            base = int(starts[first])
            decoded.append(
                blob_reader.decode_pages(
                    self._pread(base, int(ends[end - 1]) - base),
                    starts[first:end] - base,
                    ends[first:end] - base,
                    last_may_be_padded=int(rows[end - 1]) + 1 == len(self.keys),
                )
            )
        return PageBatch(self.keys[rows], decoded[0] if len(decoded) == 1 else b"".join(decoded))

    @cached_property
    def _index(self) -> tuple[Keys, npt.NDArray[np.uint64]]:
        keys, offsets = self._tree.load()
        if int(offsets[0]) != BLOCK_SIZE or int(offsets[-1]) >= self._data_end:
            raise self._corrupted("the values are not where the index says")
        if keys[0].tobytes() < self.name.key_range.start.to_bytes():
            raise self._corrupted("first key lies before the layer's range")
        if keys[-1].tobytes() >= self.name.key_range.end.to_bytes():
            raise self._corrupted("last key lies after the layer's range")
        return keys, offsets

    @cached_property
    def _ends(self) -> npt.NDArray[np.uint64]:
        """Where each value starts, and at last where the index starts."""
        return np.append(self._index[1], np.uint64(self._data_end))

    @cached_property
    def _sortable_keys(self) -> npt.NDArray[np.bytes_]:
        return sortable(self.keys)

    def _rows(self, runs: Sequence[KeyRange]) -> list[list[int]]:
        """For each run the rows [first, end) of its keys."""
        bounds = np.array([edge.to_bytes() for run in runs for edge in run], self._sortable_keys.dtype)
        rows: list[list[int]] = np.searchsorted(self._sortable_keys, bounds).reshape(-1, 2).tolist()
        return rows

    def _read_summary(self, name: LayerName, tenant_id: TenantId) -> Summary:
        summary = Summary.from_block(self._pread(0, BLOCK_SIZE))
        if summary.name != name or summary.tenant_id != tenant_id:
            raise self._corrupted(
                f"holds {summary.name} of tenant {summary.tenant_id}, not {name} of {tenant_id}"
            )
        blocks = summary.index_start_blk + summary.index_root_blk + 1
        if summary.index_start_blk < 1 or blocks * BLOCK_SIZE != self._file_size:
            raise self._corrupted(f"has {self._file_size} bytes, its summary says {blocks} blocks")
        return summary

    def _read_index_block(self, block: int) -> bytes:
        return self._pread(self._data_end + block * BLOCK_SIZE, BLOCK_SIZE)

    def _pread(self, offset: int, length: int) -> bytes:
        data = os.pread(self._fd, length, offset)
        if len(data) != length:
            raise self._corrupted(f"ends before {offset + length}")
        return data

    def _corrupted(self, why: str) -> LayerCorrupted:
        return LayerCorrupted(f"{self._path}: {why}")
