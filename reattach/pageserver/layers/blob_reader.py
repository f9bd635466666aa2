"""Values from the blobs of image layers."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt
import zstandard

from reattach.api.key import BLCKSZ
from reattach.pageserver.layers.blobs import (
    HEADER_SIZE,
    KIND_RAW,
    KIND_ZSTD,
    MAX_LENGTH,
    SHORT_LIMIT,
    Buffer,
)
from reattach.pageserver.layers.errors import LayerCorrupted


def blob_length(blob: bytes) -> int:
    """The bytes of the blob that `blob` starts with, header included. Raises LayerCorrupted."""
    if blob and blob[0] < SHORT_LIMIT:
        return 1 + blob[0]
    if len(blob) < HEADER_SIZE:
        raise LayerCorrupted("a blob ends within its header")
    if blob[0] >> 4 not in (KIND_RAW, KIND_ZSTD):
        raise LayerCorrupted(f"a blob of unknown kind {blob[0] >> 4:#x}")
    return HEADER_SIZE + (int.from_bytes(blob[:HEADER_SIZE]) & MAX_LENGTH)


def decode(blob: bytes) -> bytes:
    """The value of one whole blob. Raises LayerCorrupted."""
    if blob[0] < SHORT_LIMIT:
        return blob[1:]
    body = blob[HEADER_SIZE:]
    if blob[0] >> 4 == KIND_RAW:
        return body
    # Frames of other writers do not say how long their content is.
    inflater = zstandard.ZstdDecompressor().decompressobj()
    try:
        value = inflater.decompress(body)
    except zstandard.ZstdError as e:
        raise LayerCorrupted(f"a value cannot be decompressed: {e}") from e
    if not inflater.eof or inflater.unused_data:
        raise LayerCorrupted("a compressed value is no whole frame")
    return value


def decode_pages(
    raw: bytes, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], *, last_may_be_padded: bool
) -> Buffer:
    """The pages of the blobs in `raw`, joined; blob i lies from `starts[i]` to `ends[i]`.

    The last may be followed by padding. Raises LayerCorrupted.
    """
    if not len(starts):
        return b""
    if (ends - starts <= HEADER_SIZE).any():
        raise LayerCorrupted("a blob is too short for a page")
    source = np.frombuffer(raw, np.uint8)
    headers = np.lib.stride_tricks.sliding_window_view(source, HEADER_SIZE)[starts]
    words = np.ascontiguousarray(headers).view(">u4").reshape(-1).astype(np.int64)
    kinds, lengths = words >> 28, words & MAX_LENGTH
    padding = ends - (starts + HEADER_SIZE + lengths)
    if last_may_be_padded and padding[-1] > 0:
        padding[-1] = 0
    is_raw = kinds == KIND_RAW
    if padding.any() or (lengths[is_raw] != BLCKSZ).any() or (~is_raw & (kinds != KIND_ZSTD)).any():
        raise LayerCorrupted("a blob is not where the index says, or is no page")
    if not is_raw.any():
        return _inflate(raw, starts + HEADER_SIZE, lengths)
    pages = np.empty((len(starts), BLCKSZ), np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(source, BLCKSZ)
    pages[is_raw] = windows[starts[is_raw] + HEADER_SIZE]
    if not is_raw.all():
        packed = ~is_raw
        inflated = _inflate(raw, starts[packed] + HEADER_SIZE, lengths[packed])
        pages[packed] = np.frombuffer(inflated, np.uint8).reshape(-1, BLCKSZ)
    return pages.data.cast("B")


_local = threading.local()


def _inflate(raw: bytes, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> bytes:
    """The pages in the frames of `raw`, joined. Raises LayerCorrupted."""
    decompressor: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if decompressor is None:
        decompressor = _local.decompressor = zstandard.ZstdDecompressor()
    count = len(starts)
    segments = np.stack((starts, lengths), axis=1).astype(np.uint64)
    sizes = np.full(count, BLCKSZ, np.uint64)
    try:
        pages = decompressor.multi_decompress_to_buffer(
            zstandard.BufferWithSegments(raw, segments.tobytes()), decompressed_sizes=sizes.tobytes()
        )
    except zstandard.ZstdError as e:
        raise LayerCorrupted(f"a page cannot be decompressed: {e}") from e
    return b"".join(map(pages.__getitem__, range(count)))  # type: ignore[arg-type]
