"""Image layer files: round trips, the bytes of the format, corruption."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from reattach.api.ids import TenantId, TimelineId
from reattach.api.key import (
    BLCKSZ,
    CONTROLFILE_KEY,
    DBDIR_KEY,
    KEY_MAX,
    KEY_MIN,
    Key,
    KeyRange,
    RelTag,
    reldir_key,
)
from reattach.api.layer_name import LayerName
from reattach.api.lsn import Lsn
from reattach.api.shard import ShardIdentity
from reattach.pageserver.layers import blobs, image_layer_reader
from reattach.pageserver.layers.blobs import FramedBatch, frame
from reattach.pageserver.layers.checksum import LayerChecksum, checksum_file, verify_file
from reattach.pageserver.layers.compression import ImageCompression
from reattach.pageserver.layers.errors import LayerCorrupted
from reattach.pageserver.layers.image_layer_reader import ImageLayerReader, PageBatch
from reattach.pageserver.layers.image_layer_writer import ImageLayerWriter, WrittenLayer
from reattach.pageserver.layers.key_arrays import as_keys
from test_runner.unit.api.strategies import shards

TENANT = TenantId("11" * 16)
TIMELINE = TimelineId("22" * 16)
NAME = LayerName(KeyRange(KEY_MIN, KEY_MAX), Lsn(0x1500028))
REL = RelTag(1663, 5, 16384, 0)
COMPRESSIONS = (ImageCompression(1), ImageCompression(None))
compressions = st.sampled_from(COMPRESSIONS)

Content = dict[Key, bytes]
Parts = list[tuple[Key, bytes]]


@contextmanager
def temp_path() -> Iterator[Path]:
    with TemporaryDirectory() as directory:
        yield Path(directory) / "layer"


def some_pages(count: int, seed: int, kinds: str = "random repeated zero") -> bytes:
    rng = random.Random(seed)
    pages = []
    for _ in range(count):
        kind = rng.choice(kinds.split())
        noise = {"random": BLCKSZ, "repeated": 32, "zero": 0}[kind]
        pages.append((rng.randbytes(noise) or b"\0") * (BLCKSZ // (noise or 1)))
    return b"".join(pages)


def write(path: Path, parts: Parts, compression: ImageCompression) -> tuple[WrittenLayer, Content]:
    """Writes values, and pages for rel block keys; returns what every key must have."""
    writer = ImageLayerWriter(path, NAME, TENANT, TIMELINE, compression)
    content: Content = {}
    for key, value in parts:
        if key.is_rel_block:
            writer.put_pages(key, value)
            content |= {key.advance(i // BLCKSZ): value[i : i + BLCKSZ] for i in range(0, len(value), BLCKSZ)}
        else:
            writer.put(key, value)
            content[key] = value
    return writer.finish(), content


def by_key(batch: PageBatch) -> list[tuple[Key, bytes]]:
    assert len(batch.pages) == len(batch.keys) * BLCKSZ
    pages = bytes(batch.pages)
    return [
        (Key.from_bytes(key.tobytes()), pages[i * BLCKSZ : (i + 1) * BLCKSZ])
        for i, key in enumerate(batch.keys)
    ]


@st.composite
def layer_parts(draw: st.DrawFn) -> Parts:
    parts: dict[Key, bytes] = {}
    for key in (DBDIR_KEY, reldir_key(1663, 5), CONTROLFILE_KEY):
        if draw(st.booleans()):
            size = draw(st.sampled_from([0, 1, 127, 128, 129, 5000]))
            parts[key] = some_pages(1, size)[:size]
    block = 0
    for _ in range(draw(st.integers(0, 4))):
        block += draw(st.integers(0, 3))
        count = draw(st.integers(1, 40))
        parts[REL.block(block)] = some_pages(count, draw(st.integers(0, 100)))
        block += count
    if not parts or draw(st.booleans()):
        parts[REL.size_key()] = block.to_bytes(8, "little")
    return sorted(parts.items())


@settings(max_examples=40)
@given(layer_parts(), compressions)
def test_every_value_comes_back(parts: Parts, compression: ImageCompression) -> None:
    """I8: by point reads and by bulk reads, with and without compression."""
    with temp_path() as path:
        layer, content = write(path, parts, compression)
        assert layer.file_size == path.stat().st_size
        assert layer.keys == len(content)
        with ImageLayerReader(path, NAME, TENANT, checksum=layer.checksum) as reader:
            assert {key: reader.get(key) for key in content} == content
            assert list(reader.values(NAME.key_range)) == sorted(content.items())
            assert [Key.from_bytes(row.tobytes()) for row in reader.keys] == sorted(content)
            for missing in (Key(9, 0, 0, 0, 0, 0), REL.block(999_999), KEY_MAX):
                assert reader.get(missing) is None
            pages = sorted((k, v) for k, v in content.items() if k.is_rel_block)
            assert by_key(reader.pages([REL.blocks(0, 0xFFFFFFFF)])) == pages


@settings(max_examples=40)
@given(layer_parts(), compressions, st.randoms(use_true_random=False), st.sampled_from([-1, 9000, 1 << 18]))
def test_pages_come_in_the_order_of_the_runs(
    parts: Parts, compression: ImageCompression, rng: random.Random, read_along: int
) -> None:
    """Whatever lies between them, and however much of that is read along."""
    with temp_path() as path, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(image_layer_reader, "_GAP_BYTES", read_along)
        _, content = write(path, parts, compression)
        present = sorted(key for key in content if key.is_rel_block)
        runs = [KeyRange.single(key) for key in rng.sample(present, rng.randint(0, len(present)))]
        runs.append(REL.blocks(999_990, 999_999))
        if present:
            runs.append(KeyRange(present[0], present[-1].next()))
        with ImageLayerReader(path, NAME, TENANT) as reader:
            expected = [(key, content[key]) for run in runs for key in present if run.contains(key)]
            assert by_key(reader.pages(runs)) == expected


@settings(max_examples=40)
@given(layer_parts(), compressions)
def test_a_batch_is_what_its_items_are_one_by_one(parts: Parts, compression: ImageCompression) -> None:
    """I8: values and pages that are framed together, as those of many small relations are."""
    alone = [framed([part], compression) for part in parts]
    batch = framed(parts, compression)
    assert bytes(batch.data) == b"".join(each.data for each in alone)
    assert batch.sizes.tolist() == [size for each in alone for size in each.sizes.tolist()]


def framed(parts: Parts, compression: ImageCompression) -> FramedBatch:
    counts = [len(value) // BLCKSZ if key.is_rel_block else 1 for key, value in parts]
    values = {row: value for row, (key, value) in enumerate(parts) if not key.is_rel_block}
    pages = b"".join(value for key, value in parts if key.is_rel_block)
    return frame(as_keys(key for key, _ in parts), np.array(counts), values, pages, compression)


@settings(max_examples=40)
@given(layer_parts(), compressions, st.randoms(use_true_random=False), st.sampled_from([1, 9000, 1 << 18]))
def test_any_keys_are_found(
    parts: Parts, compression: ImageCompression, rng: random.Random, bytes_at_once: int
) -> None:
    """I8: in any order, more than once, together with keys that the layer does not have."""
    with temp_path() as path, pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_layer_reader, "_FIND_BYTES", bytes_at_once)
        layer, content = write(path, parts, compression)
        absent = [Key(9, 0, 0, 0, 0, 0), REL.block(999_999), KEY_MIN._replace(field6=7), KEY_MAX]
        wanted = rng.sample(sorted(content), rng.randint(0, len(content))) + absent
        wanted += wanted[:2]
        rng.shuffle(wanted)
        with ImageLayerReader(path, NAME, TENANT, checksum=layer.checksum) as reader:
            assert reader.find(wanted) == {key: content[key] for key in wanted if key in content}


@settings(max_examples=30)
@given(layer_parts(), shards)
def test_disposable_keys_are_counted(parts: Parts, shard: ShardIdentity) -> None:
    with temp_path() as path:
        _, content = write(path, parts, ImageCompression(None))
        with ImageLayerReader(path, NAME, TENANT) as reader:
            disposable = sum(shard.is_disposable(key) for key in content)
            assert reader.scan_disposable(shard) == (disposable, len(content) - disposable)


def test_bytes_of_the_format(tmp_path: Path) -> None:
    """Block 0, blobs and index stand where the format says."""
    path = tmp_path / "layer"
    page, noise = b"a" * BLCKSZ, random.Random(1).randbytes(BLCKSZ)
    parts = [(DBDIR_KEY, b"short"), (REL.block(0), page + noise), (CONTROLFILE_KEY, noise)]
    layer, _ = write(path, parts, ImageCompression(1))
    raw = path.read_bytes()
    start_blk, root_blk = struct.unpack_from(">II", raw, 80)
    assert raw[:4] == b"\x5a\x60\x00\x03"
    assert raw[4:36] == TENANT.id + TIMELINE.id
    assert raw[36:72] == KEY_MIN.to_bytes() + KEY_MAX.to_bytes()
    assert raw[72:80] == (0x1500028).to_bytes(8)
    assert not any(raw[88:8192])
    assert raw[8192:8198] == b"\x05short"
    (header,) = struct.unpack_from(">I", raw, 8198)
    length = header & 0x0FFFFFFF
    assert header >> 28 == 9
    assert zstandard.ZstdDecompressor().decompress(raw[8202 : 8202 + length]) == page
    position = 8202 + length
    for _ in range(2):
        assert raw[position : position + 4] == b"\x80\x00\x20\x00"
        assert raw[position + 4 : position + 4 + BLCKSZ] == noise
        position += 4 + BLCKSZ
    assert start_blk == -(-position // BLCKSZ)
    assert not any(raw[position : start_blk * BLCKSZ])
    assert len(raw) == layer.file_size == (start_blk + root_blk + 1) * BLCKSZ


def test_frames_of_other_writers_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They say neither how long their content is nor what its checksum is."""
    bare = zstandard.ZstdCompressor(1, write_content_size=False, write_checksum=False)
    monkeypatch.setattr(blobs, "_compressor", lambda level: bare)
    path = tmp_path / "layer"
    _, content = write(path, [(REL.block(0), some_pages(6, 3, "repeated zero"))], ImageCompression(1))
    with ImageLayerReader(path, NAME, TENANT) as reader:
        assert [reader.get(REL.block(i)) for i in range(6)] == list(content.values())
        assert by_key(reader.pages([REL.blocks(0, 6)])) == sorted(content.items())


def test_a_page_is_compressed_if_that_makes_it_shorter(tmp_path: Path) -> None:
    pages = [random.Random(n).randbytes(n).ljust(BLCKSZ, b"\0") for n in range(7900, 8193, 6)]
    path = tmp_path / "layer"
    write(path, [(REL.block(0), b"".join(pages))], ImageCompression(1))
    raw, position = path.read_bytes(), BLCKSZ
    lengths = []
    for page in pages:
        (header,) = struct.unpack_from(">I", raw, position)
        kind, length = header >> 28, header & 0x0FFFFFFF
        frame = zstandard.ZstdCompressor(1, write_checksum=True).compress(page)
        assert (kind, length) == ((9, len(frame)) if len(frame) < BLCKSZ else (8, BLCKSZ))
        lengths.append(length)
        position += 4 + length
    assert max(length for length in lengths if length < BLCKSZ) > BLCKSZ - 200
    assert BLCKSZ in lengths


CORRUPTED_PARTS = [
    (DBDIR_KEY, b"short"),
    (REL.block(0), some_pages(8, 5)),
    (REL.size_key(), (8).to_bytes(8, "little")),
    (CONTROLFILE_KEY, random.Random(2).randbytes(8192)),
]


@settings(max_examples=60)
@given(st.data(), compressions)
def test_with_its_checksum_every_flipped_bit_is_noticed(
    data: st.DataObject, compression: ImageCompression
) -> None:
    """I8: in header, blobs, padding and index alike."""
    with temp_path() as path:
        layer, _ = write(path, CORRUPTED_PARTS, compression)
        raw = bytearray(path.read_bytes())
        at = data.draw(st.one_of(st.integers(0, 100), st.integers(0, len(raw) - 1)))
        raw[at] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(raw)
        with pytest.raises(LayerCorrupted):
            ImageLayerReader(path, NAME, TENANT, checksum=layer.checksum)


@settings(max_examples=150)
@given(st.data())
def test_without_checksum_no_compressed_page_comes_back_wrong(data: st.DataObject) -> None:
    """I8: what readers notice without the index's help: header, extents, frames, lengths."""
    pages = some_pages(8, 5, "repeated zero")
    with temp_path() as path:
        _, content = write(path, [(REL.block(0), pages)], ImageCompression(1))
        raw = bytearray(path.read_bytes())
        (index_start,) = struct.unpack_from(">I", raw, 80)
        blobs_end = len(raw[: index_start * 8192].rstrip(b"\0"))
        at = data.draw(st.one_of(st.integers(0, 87), st.integers(8192, blobs_end), st.integers(8192, 8200)))
        raw[at] ^= data.draw(st.integers(1, 255))
        path.write_bytes(raw)
        for read in (_read_points, _read_bulk):
            try:
                seen = read(path)
            except LayerCorrupted:
                continue
            assert seen == content


def _read_points(path: Path) -> Content:
    with ImageLayerReader(path, NAME, TENANT) as reader:
        return {REL.block(i): reader.get(REL.block(i)) or b"missing" for i in range(8)}


def _read_bulk(path: Path) -> Content:
    with ImageLayerReader(path, NAME, TENANT) as reader:
        return dict(by_key(reader.pages([REL.blocks(0, 100)])))


@pytest.mark.parametrize("size", [0, 50, 8192, 8193, 20000])
def test_truncated_files_are_no_layers(tmp_path: Path, size: int) -> None:
    path = tmp_path / "layer"
    write(path, CORRUPTED_PARTS, ImageCompression(1))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(LayerCorrupted):
        ImageLayerReader(path, NAME, TENANT)


def test_another_layer_under_this_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    write(path, CORRUPTED_PARTS, ImageCompression(1))
    with pytest.raises(LayerCorrupted):
        ImageLayerReader(path, LayerName(NAME.key_range, Lsn(8)), TENANT)
    with pytest.raises(LayerCorrupted):
        ImageLayerReader(path, NAME, TenantId("33" * 16))


@pytest.mark.parametrize(
    "parts",
    [
        [(REL.block(1), 1), (REL.block(0), 1)],
        [(REL.block(0), 2), (REL.block(1), 1)],
        [(REL.block(0), 1), (REL.block(0), 1)],
        [(Key(0, 1663, 5, 16383, 0, 0), 1)],
        [(REL.block(9), 3)],
    ],
)
def test_keys_out_of_order_or_out_of_range_are_refused(tmp_path: Path, parts: list[tuple[Key, int]]) -> None:
    name = LayerName(REL.blocks(0, 11), Lsn(8))
    writer = ImageLayerWriter(tmp_path / "layer", name, TENANT, TIMELINE, ImageCompression())
    with pytest.raises(ValueError):
        for key, pages in parts:
            writer.put_pages(key, bytes(pages * BLCKSZ))
    writer.discard()
    assert list(tmp_path.iterdir()) == []


@given(st.binary(max_size=30_000), st.lists(st.integers(0, 30_000), max_size=5))
def test_checksum_does_not_depend_on_the_pieces(content: bytes, cuts: list[int]) -> None:
    with temp_path() as path:
        path.write_bytes(content)
        pieces = LayerChecksum()
        edges = sorted({0, *(min(cut, len(content)) for cut in cuts), len(content)})
        for start, end in pairwise(edges):
            pieces.update(content[start:end])
        assert pieces.text() == checksum_file(path)
        verify_file(path, pieces.text())
        writers = LayerChecksum.without_first_block()
        writers.update(content[8192:])
        assert writers.text(content[:8192]) == pieces.text()
