"""Bodies on their way in, and objects' bytes on their way out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.witness.s3.blob import (
    Blob,
    BlobChanged,
    JoinedBlob,
    MemoryBlob,
    PathBlob,
    SlicedBlob,
    SpoolBlob,
    chunks,
    open_spool_file,
)
from reattach.witness.s3.body import SPOOL_BYTES, BadBody, Receiver


def content_of(blob: Blob, start: int = 0, end: int | None = None) -> bytes:
    pieces = blob.open(start, blob.size if end is None else end)
    try:
        return pieces.read()
    finally:
        pieces.close()


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def aws_chunked(chunks: list[bytes], extension: str, trailers: dict[str, str]) -> bytes:
    parts = [f"{len(chunk):x}{extension}\r\n".encode() + chunk + b"\r\n" for chunk in chunks if chunk]
    lines = "".join(f"{name}:{value}\r\n" for name, value in trailers.items())
    return b"".join(parts) + f"0{extension}\r\n{lines}\r\n".encode()


@given(
    st.lists(st.binary(max_size=30), max_size=5),
    st.sampled_from(["", ";chunk-signature=abc"]),
    st.dictionaries(st.sampled_from(["x-amz-checksum-crc32", "x-amz-trailer-signature"]), st.just("AA==")),
    st.lists(st.integers(1, 20), max_size=20),
)
def test_aws_chunked_is_decoded_however_it_is_cut(
    parts: list[bytes], extension: str, trailers: dict[str, str], cuts: list[int]
) -> None:
    wire = aws_chunked(parts, extension, trailers)
    receiver = Receiver(len(wire), len(b"".join(parts)), True, None)
    at = 0
    for size in [*cuts, len(wire)]:
        receiver.feed(memoryview(wire)[at : at + size])
        at += size
    assert receiver.remaining == 0
    blob, found = receiver.finish()
    assert content_of(blob) == b"".join(parts)
    assert found == trailers
    assert receiver.received == len(wire)


@pytest.mark.parametrize(
    "wire",
    [
        b"zz\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"2\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n",
        b"5\r\nhel",
        b"",
        b"9" * 9000,
    ],
)
def test_bad_aws_chunked_is_refused(wire: bytes) -> None:
    receiver = Receiver(len(wire), None, True, None)
    with pytest.raises(BadBody):
        receiver.feed(memoryview(wire))
        receiver.finish()


def test_announced_length_must_be_right() -> None:
    wire = aws_chunked([b"hello"], "", {})
    receiver = Receiver(len(wire), 4, True, None)
    receiver.feed(memoryview(wire))
    with pytest.raises(BadBody, match="x-amz-decoded-content-length"):
        receiver.finish()


@pytest.mark.parametrize("size", [0, 1, SPOOL_BYTES - 1, SPOOL_BYTES, 3 * SPOOL_BYTES + 5])
@pytest.mark.parametrize("spooled", [True, False])
def test_plain_bodies(tmp_path: Path, size: int, spooled: bool) -> None:
    content = os.urandom(size)
    receiver = Receiver(size, None, False, tmp_path if spooled else None)
    at = 0
    while at < size:
        target = receiver.target()
        step = min(100_000, size - at)
        if target is not None and at % 2 == 0:
            target[:step] = content[at : at + step]
            receiver.placed(step)
        else:
            receiver.feed(memoryview(content)[at : at + step])
        at += step
    blob, _ = receiver.finish()
    assert isinstance(blob, SpoolBlob) == (spooled and size >= SPOOL_BYTES)
    assert content_of(blob) == content
    assert list(tmp_path.iterdir()) == [], "a spooled body has a name"


@given(
    st.lists(st.binary(max_size=12), min_size=1, max_size=5),
    st.integers(0, 60),
    st.integers(0, 60),
    st.integers(0, 60),
)
def test_joined_and_sliced_blobs_are_their_bytes(parts: list[bytes], one: int, two: int, at: int) -> None:
    whole = b"".join(parts)
    start, end = sorted((min(one, len(whole)), min(two, len(whole))))
    joined = JoinedBlob([MemoryBlob(part) for part in parts])
    assert content_of(joined, start, end) == whole[start:end]
    sliced = SlicedBlob(joined, start, end)
    assert content_of(sliced) == whole[start:end]
    assert b"".join(bytes(chunk) for chunk in chunks(sliced, 3)) == whole[start:end]
    if at < end - start:
        wrong = bytearray(whole[start:end])
        wrong[at] ^= 0xFF
        assert joined.open(start, end).inverted_at(at).read() == wrong


def test_file_blobs(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    stat = (tmp_path / "f").stat()
    by_path = PathBlob(str(tmp_path / "f"), stat.st_size, stat.st_mtime_ns)
    file = open_spool_file(tmp_path)
    file.write(b"abcdef")
    joined = JoinedBlob([by_path, SpoolBlob(file, 6)])
    assert content_of(joined, 8, 12) == b"89ab"
    before = open_files()
    for _ in range(10):
        pieces = joined.open(0, 16).inverted_at(3).inverted_at(10)
        assert pieces.read()[2:5] == b"2\xcc4"
        pieces.close()
        pieces.close()
    assert open_files() == before
    (tmp_path / "f").write_bytes(b"9876543210")
    os.utime(tmp_path / "f", (1, 1))
    with pytest.raises(BlobChanged, match="was changed"):
        by_path.open(0, 1)
    (tmp_path / "f").unlink()
    with pytest.raises(BlobChanged, match="No such file"):
        by_path.open(0, 1)
    assert open_files() == before
