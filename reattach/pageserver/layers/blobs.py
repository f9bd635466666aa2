"""Values as image layers store them: a header, then the value, compressed if that makes it shorter."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import zstandard

from reattach.api.key import BLCKSZ
from reattach.pageserver.layers.compression import ImageCompression
from reattach.pageserver.layers.key_arrays import Keys, Numbers

Buffer: TypeAlias = bytes | bytearray | memoryview

SHORT_LIMIT = 128
"""Values below this length have a header of one byte, their length, and are never compressed."""

HEADER_SIZE = 4
"""Of any other value: 4 bits kind, 28 bits stored length, big-endian."""

KIND_RAW = 0x8
KIND_ZSTD = 0x9
MAX_LENGTH = 0x0FFFFFFF


@dataclass(frozen=True, slots=True)
class FramedBatch:
    """Blobs of ascending keys, ready to be written.

    firsts, counts: the keys, so many block by block from each of `firsts` on. sizes: bytes of each blob with
    its header, one per key. data: the blobs, back to back.
    """

    firsts: Keys
    counts: Numbers
    sizes: npt.NDArray[np.uint32]
    data: Buffer


def frame(
    firsts: Keys, counts: Numbers, values: Mapping[int, bytes], pages: Buffer, compression: ImageCompression
) -> FramedBatch:
    """Makes blobs; thread-safe, and most of its work needs no interpreter lock.

    firsts, counts: the keys, as in a FramedBatch. values: by the number of the run that is the key of one.
    pages: of all the other runs, back to back.
    """
    rows = np.fromiter(values, np.int64, len(values))
    page_counts = counts.copy()
    page_counts[rows] = 0
    if len(pages) != int(page_counts.sum()) * BLCKSZ:
        raise ValueError(f"{len(pages)} bytes are not {int(page_counts.sum())} pages")
    framed = _frame_pages(pages, compression)
    if not values:
        return FramedBatch(firsts, counts, framed.sizes, framed.whole())
    parts: list[Buffer] = []
    blobs = [_frame_value(value, compression) for value in values.values()]
    page = 0
    for blob, following in zip(blobs, np.cumsum(page_counts)[rows].tolist(), strict=True):
        parts += framed.parts(page, following)
        parts.append(blob)
        page = following
    parts += framed.parts(page, len(framed.sizes))
    sizes = np.empty(int(counts.sum()), np.uint32)
    is_page = np.ones(len(sizes), np.bool_)
    value_keys = np.cumsum(counts)[rows] - 1
    is_page[value_keys] = False
    sizes[is_page] = framed.sizes
    sizes[value_keys] = list(map(len, blobs))
    return FramedBatch(firsts, counts, sizes, b"".join(parts))


class _FramedPages(NamedTuple):
    """Headers and bodies alternate in `pieces`; or all pages are raw and lie, framed, in `raw`."""

    sizes: npt.NDArray[np.uint32]
    pieces: list[Buffer]
    raw: npt.NDArray[np.uint8] | None

    def parts(self, first: int, end: int) -> list[Buffer]:
        if self.raw is not None:
            return [self.raw[first:end].data.cast("B")] if first < end else []
        return self.pieces[2 * first : 2 * end]

    def whole(self) -> Buffer:
        return self.raw.data.cast("B") if self.raw is not None else b"".join(self.pieces)


def _frame_pages(pages: Buffer, compression: ImageCompression) -> _FramedPages:
    count = len(pages) // BLCKSZ
    if count == 0:
        return _FramedPages(np.empty(0, np.uint32), [], None)
    if compression.zstd_level is None:
        return _frame_raw(pages, count)
    segments = np.empty((count, 2), np.uint64)
    segments[:, 0] = np.arange(0, count * BLCKSZ, BLCKSZ, dtype=np.uint64)
    segments[:, 1] = BLCKSZ
    source = zstandard.BufferWithSegments(pages, segments.tobytes())
    frames = _compressor(compression.zstd_level).multi_compress_to_buffer(source)
    bodies: list[Buffer] = list(map(frames.__getitem__, range(count)))  # type: ignore[arg-type]
    lengths = np.fromiter(map(len, bodies), np.uint32, count)
    raw = lengths >= BLCKSZ
    if raw.all():
        return _frame_raw(pages, count)
    kinds = np.where(raw, np.uint32(KIND_RAW << 28), np.uint32(KIND_ZSTD << 28))
    if raw.any():
        lengths[raw] = BLCKSZ
        edges = np.flatnonzero(np.diff(raw, prepend=False, append=False)).reshape(-1, 2).tolist()
        for first, end in edges:
            bodies[first:end] = map(source.__getitem__, range(first, end))  # type: ignore[arg-type]
    pieces: list[Buffer] = [b""] * (2 * count)
    pieces[::2] = (lengths | kinds).astype(">u4").view("V4").tolist()
    pieces[1::2] = bodies
    return _FramedPages(lengths + np.uint32(HEADER_SIZE), pieces, None)


def _frame_raw(pages: Buffer, count: int) -> _FramedPages:
    framed = np.empty((count, HEADER_SIZE + BLCKSZ), np.uint8)
    framed[:, :HEADER_SIZE] = np.frombuffer(_header(KIND_RAW, BLCKSZ), np.uint8)
    framed[:, HEADER_SIZE:] = np.frombuffer(pages, np.uint8).reshape(count, BLCKSZ)
    return _FramedPages(np.full(count, HEADER_SIZE + BLCKSZ, np.uint32), [], framed)


def _frame_value(value: bytes, compression: ImageCompression) -> bytes:
    if len(value) < SHORT_LIMIT:
        return bytes((len(value),)) + value
    if compression.zstd_level is not None:
        frame_ = _compressor(compression.zstd_level).compress(value)
        if len(frame_) < len(value):
            return _header(KIND_ZSTD, len(frame_)) + frame_
    return _header(KIND_RAW, len(value)) + value


def _header(kind: int, length: int) -> bytes:
    if length > MAX_LENGTH:
        raise ValueError(f"a value of {length} bytes is longer than {MAX_LENGTH}")
    return (kind << 28 | length).to_bytes(HEADER_SIZE)


_local = threading.local()


def _compressor(level: int) -> zstandard.ZstdCompressor:
    """This thread's compressor; they must not be shared while in use."""
    compressors: dict[int, zstandard.ZstdCompressor] = _local.__dict__.setdefault("compressors", {})
    if level not in compressors:
        # The checksum makes readers notice a flipped bit. It costs 4 bytes, and any reader checks it.
        compressors[level] = zstandard.ZstdCompressor(level, write_checksum=True, write_content_size=True)
    return compressors[level]
