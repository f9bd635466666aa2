"""Writing an image layer file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reattach.api.ids import TenantId, TimelineId
from reattach.api.key import BLCKSZ, SIZE_FIELD, Key
from reattach.api.layer_name import LayerName
from reattach.pageserver.layers import btree
from reattach.pageserver.layers.blobs import Buffer, FramedBatch, frame
from reattach.pageserver.layers.checksum import BLOCK_SIZE, LayerChecksum
from reattach.pageserver.layers.compression import ImageCompression
from reattach.pageserver.layers.key_arrays import (
    Keys,
    Numbers,
    advanced,
    as_keys,
    blocks_of,
    expand_runs,
    key_of,
    sortable,
)
from reattach.pageserver.layers.summary import Summary


class WrittenLayer(NamedTuple):
    """A finished layer file. Sizes in bytes; `checksum` is `LayerChecksum`'s text."""

    path: Path
    name: LayerName
    file_size: int
    checksum: str
    keys: int


class ImageLayerWriter:
    """Writes the values of a key range, in key order, to a new file.

    Use one thread at a time. `finish` or `discard` ends it. Methods raise OSError, and ValueError for keys
    that are out of order or out of range.
    """

    def __init__(
        self,
        path: Path,
        name: LayerName,
        tenant_id: TenantId,
        timeline_id: TimelineId,
        compression: ImageCompression,
    ) -> None:
        self._path = path
        self._name = name
        self._ids = (tenant_id, timeline_id)
        self._compression = compression
        self._batches: list[tuple[Keys, Numbers, npt.NDArray[np.uint32]]] = []
        self._last_key = as_keys([])
        self._position = BLOCK_SIZE
        self._checksum = LayerChecksum.without_first_block()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    @property
    def is_empty(self) -> bool:
        return not self._batches

    def put(self, key: Key, value: bytes) -> None:
        self.append(frame(as_keys([key]), np.ones(1, np.int64), {0: value}, b"", self._compression))

    def put_pages(self, first: Key, pages: Buffer) -> None:
        """Pages of consecutive blocks; `pages` has a multiple of 8192 bytes."""
        counts = np.array([len(pages) // BLCKSZ])
        self.append(frame(as_keys([first]), counts, {}, pages, self._compression))

    def append(self, batch: FramedBatch) -> None:
        """Writes blobs that `frame` made, which may have happened in another thread."""
        if len(batch.sizes):
            self._check_order(batch.firsts, batch.counts)
            self._batches.append((batch.firsts, batch.counts, batch.sizes))
            self._write(batch.data)

    def finish_with(self, batch: FramedBatch) -> WrittenLayer:
        """`append`, then `finish`."""
        self.append(batch)
        return self.finish()

    def finish(self) -> WrittenLayer:
        """Writes index and summary and closes the file. At least one value must have been written."""
        if self.is_empty:
            raise ValueError("a layer has at least one value")
        firsts, counts, sizes = map(np.concatenate, zip(*self._batches, strict=True))
        ends = np.cumsum(sizes, dtype=np.uint64)
        blocks = btree.build(expand_runs(firsts, counts), ends - sizes + np.uint64(BLOCK_SIZE))
        index_start = -(-self._position // BLOCK_SIZE)
        self._write(bytes(index_start * BLOCK_SIZE - self._position))
        self._write(b"".join(blocks))
        first_block = Summary(*self._ids, self._name, index_start, len(blocks) - 1).to_block()
        _write_all(self._fd, first_block, 0)
        self._close()
        return WrittenLayer(
            self._path, self._name, self._position, self._checksum.text(first_block), len(sizes)
        )

    def discard(self) -> None:
        """Removes the file, unless it was finished. May be called again."""
        if self._fd >= 0:
            self._close()
            self._path.unlink(missing_ok=True)

    def _check_order(self, firsts: Keys, counts: Numbers) -> None:
        lasts = advanced(firsts, counts - 1)
        before = np.concatenate([self._last_key, lasts[:-1]])
        after = firsts[len(firsts) - len(before) :]
        for row in np.flatnonzero(sortable(after) <= sortable(before)).tolist():
            raise ValueError(f"key {key_of(after[row])} comes after {key_of(before[row])}")
        keys, first, last = self._name.key_range, key_of(firsts[0]), key_of(lasts[-1])
        if first < keys.start or last >= keys.end or (blocks_of(firsts) + counts > SIZE_FIELD + 1).any():
            raise ValueError(f"keys {first} to {last} are outside of {keys}")
        self._last_key = lasts[-1:]

    def _write(self, data: Buffer) -> None:
        _write_all(self._fd, data, self._position)
        self._checksum.update(data)
        self._position += len(data)

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1


def _write_all(fd: int, data: Buffer, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
