"""index_part.json: round trips, field order, both spellings of the metadata, import states."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.api.ids import ShardIndex, TimelineId
from reattach.api.key import KEY_MAX, KEY_MIN, KeyRange
from reattach.api.layer_name import LayerName
from reattach.api.location import AwsS3, ImportLocation, LocalFs
from reattach.api.lsn import Lsn
from reattach.pageserver.layers.compression import ImageCompression
from reattach.pageserver.layers.index_part import (
    ImportDone,
    ImportInProgress,
    ImportSource,
    IndexPart,
    IndexPartError,
    LayerFileMetadata,
)
from reattach.pageserver.layers.naive_datetime import format_naive, parse_naive
from reattach.pageserver.layers.timeline_metadata import (
    TimelineMetadata,
    read_legacy,
    write_legacy,
)
from test_runner.unit.api.strategies import keys, lsns, timeline_ids

times = st.datetimes(timezones=st.just(UTC))
naive = times.map(format_naive)
metadatas = st.builds(
    TimelineMetadata,
    lsns,
    st.none() | lsns,
    st.none() | timeline_ids,
    lsns,
    lsns,
    lsns,
    st.sampled_from([14, 15, 16, 17]),
)
layers = st.dictionaries(
    st.builds(LayerName, st.builds(KeyRange, keys, keys), lsns),
    st.builds(
        LayerFileMetadata.written_by,
        st.integers(0, 2**40),
        st.none() | st.integers(0, 2**32 - 1),
        st.sampled_from([ShardIndex(0, 0), ShardIndex(0, 1), ShardIndex(3, 16)]),
        st.none() | st.just("xxh3:0011223344556677"),
    ),
    max_size=5,
)
locations = st.builds(
    ImportLocation,
    st.one_of(st.builds(AwsS3, st.text(), st.text(), st.text()), st.builds(LocalFs, st.text())),
)
import_states = st.one_of(
    st.none(),
    st.builds(
        ImportInProgress,
        st.text(),
        locations,
        naive,
        st.none() | st.builds(ImportSource, st.text(), st.integers(0, 2**32 - 1)),
    ),
    st.builds(ImportDone, st.text(), naive, naive),
)
index_parts = st.builds(
    IndexPart,
    metadata=metadatas,
    layers=layers,
    import_state=import_states,
    deleted_at=st.none() | naive,
    archived_at=st.none() | naive,
    rel_size_migration=st.sampled_from([None, "legacy", "migrating"]),
    l2_lsn=st.none() | lsns,
    rel_size_migrated_at=st.none() | lsns,
    marked_invisible_at=st.none() | naive,
    gc_blocking=st.sampled_from([None, {"started_at": "2025-01-01T00:00:00", "reasons": ["Manual"]}]),
)

ORDER = [
    "version", "deleted_at", "archived_at", "import_pgdata", "layer_metadata", "disk_consistent_lsn",
    "metadata_bytes", "lineage", "gc_blocking", "last_aux_file_policy", "rel_size_migration", "l2_lsn",
    "gc_compaction", "marked_invisible_at", "rel_size_migrated_at",
]  # fmt: skip


def wire(index: IndexPart) -> dict[str, Any]:
    fields = json.loads(index.to_json_bytes())
    assert isinstance(fields, dict)
    return fields


@given(index_parts)
def test_reads_back(index: IndexPart) -> None:
    assert IndexPart.from_json_bytes(index.to_json_bytes()) == index


@given(index_parts)
def test_fields_stand_in_the_documented_order_and_absent_ones_are_omitted(index: IndexPart) -> None:
    fields = list(wire(index))
    assert fields == [name for name in ORDER if name in fields]
    assert None not in [wire(index)[name] for name in fields]
    assert wire(index)["disk_consistent_lsn"] == wire(index)["metadata_bytes"]["disk_consistent_lsn"]


@given(index_parts)
def test_legacy_metadata_and_the_other_spelling_are_read(index: IndexPart) -> None:
    fields = wire(index)
    legacy = {**fields, "metadata_bytes": list(write_legacy(index.metadata))}
    assert IndexPart.from_json_bytes(json.dumps(legacy).encode()) == index
    fields["metadata"] = fields.pop("metadata_bytes")
    assert IndexPart.from_json_bytes(json.dumps(fields).encode()) == index


@given(index_parts)
def test_metadata_in_both_spellings_or_none_is_malformed(index: IndexPart) -> None:
    fields = wire(index)
    both = {**fields, "metadata": fields["metadata_bytes"]}
    neither = {name: value for name, value in fields.items() if name != "metadata_bytes"}
    for wrong in (both, neither):
        with pytest.raises(IndexPartError, match="has metadata_bytes or metadata, and not both"):
            IndexPart.from_json_bytes(json.dumps(wrong).encode())


@given(index_parts, st.integers(0, 14))
def test_unknown_fields_and_old_versions_are_read(index: IndexPart, version: int) -> None:
    fields = {**wire(index), "version": version, "from_the_future": {"a": [1]}}
    for layer in fields["layer_metadata"].values():
        layer["color"] = "blue"
    fields["metadata_bytes"]["more"] = 1
    read = IndexPart.from_json_bytes(json.dumps(fields).encode())
    assert msgspec.structs.replace(read, version=15) == index


@given(metadatas, st.integers(0, 511), st.integers(1, 255))
def test_flipped_bytes_of_legacy_metadata_are_noticed(metadata: TimelineMetadata, at: int, flip: int) -> None:
    raw = bytearray(write_legacy(metadata))
    assert read_legacy(bytes(raw)) == metadata
    size = int.from_bytes(raw[4:6])
    raw[at] ^= flip
    if at < size:
        with pytest.raises(ValueError):
            read_legacy(bytes(raw))
    else:
        assert read_legacy(bytes(raw)) == metadata


def test_first_index_of_an_import() -> None:
    location = ImportLocation(LocalFs("/bucket"))
    state = ImportInProgress("key", location, "2025-03-04T05:06:07.089")
    index = IndexPart(metadata=TimelineMetadata.before_import(), import_state=state)
    assert index.to_json_bytes() == (
        b'{"version":15,"import_pgdata":{"V1":{"InProgress":{"idempotency_key":"key",'
        b'"location":{"LocalFs":{"path":"/bucket"}},"started_at":"2025-03-04T05:06:07.089"}}},'
        b'"layer_metadata":{},"disk_consistent_lsn":"0/0","metadata_bytes":{"disk_consistent_lsn":"0/0",'
        b'"prev_record_lsn":null,"ancestor_timeline":null,"ancestor_lsn":"0/0","latest_gc_cutoff_lsn":"0/0",'
        b'"initdb_lsn":"0/0","pg_version":15},"lineage":{}}'
    )
    index.validate_for_upload()
    assert index.is_import_in_progress and not index.is_import_done


def test_metadata_of_an_import_ends_one_record_after_its_start() -> None:
    metadata = TimelineMetadata.of_import(Lsn("0/1500028"), 17)
    assert metadata.disk_consistent_lsn == Lsn("0/1500030")
    assert (
        metadata.prev_record_lsn == metadata.initdb_lsn == metadata.latest_gc_cutoff_lsn == Lsn("0/1500028")
    )


def test_layer_entries_omit_what_is_absent() -> None:
    name = LayerName(KeyRange(KEY_MIN, KEY_MAX), Lsn(0x30))
    bare = LayerFileMetadata.written_by(5, None, ShardIndex(0, 0), None)
    full = LayerFileMetadata.written_by(5, 2, ShardIndex(1, 2), "xxh3:00")
    for layer, expected in (
        (bare, {"file_size": 5}),
        (full, {"file_size": 5, "generation": 2, "shard": "0102", "checksum": "xxh3:00"}),
    ):
        index = IndexPart(metadata=TimelineMetadata.before_import(), layers={name: layer})
        assert wire(index)["layer_metadata"] == {str(name): expected}


def test_finishing_keeps_key_and_start() -> None:
    state = ImportInProgress(
        "key", ImportLocation(LocalFs("/b")), "2025-01-01T00:00:00", ImportSource("d", 1)
    )
    done = state.finish("2025-01-02T00:00:00")
    assert done == ImportDone("key", "2025-01-01T00:00:00", "2025-01-02T00:00:00")
    index = IndexPart(metadata=TimelineMetadata.before_import(), import_state=done)
    assert list(wire(index)["import_pgdata"]["V1"]["Done"]) == [
        "idempotency_key",
        "started_at",
        "finished_at",
    ]


def test_an_index_of_nothing_is_not_uploaded() -> None:
    empty = IndexPart(metadata=TimelineMetadata.before_import())
    with pytest.raises(IndexPartError, match="Index has no ancestor and no layers"):
        empty.validate_for_upload()
    child = msgspec.structs.replace(empty.metadata, ancestor_timeline=TimelineId.generate())
    IndexPart(metadata=child).validate_for_upload()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        b'{"layer_metadata":{},"disk_consistent_lsn":"0/0"}',
        b'{"layer_metadata":{"x":{"file_size":1}},"disk_consistent_lsn":"0/0","metadata":[]}',
        b'{"layer_metadata":{},"disk_consistent_lsn":"0/0","metadata":[256]}',
    ],
)
def test_malformed_text_is_refused(text: bytes) -> None:
    with pytest.raises(IndexPartError):
        IndexPart.from_json_bytes(text)


@pytest.mark.parametrize(
    "state",
    [{}, {"V2": {}}, {"V1": {"Paused": {}}}, {"V1": {"Done": {"idempotency_key": "k", "started_at": "x"}}}],
)
def test_malformed_import_states_are_refused(state: object) -> None:
    fields = wire(IndexPart(metadata=TimelineMetadata.before_import()))
    with pytest.raises(IndexPartError):
        IndexPart.from_json_bytes(json.dumps({**fields, "import_pgdata": state}).encode())


@given(times)
def test_naive_datetimes_read_back(time: datetime) -> None:
    text = format_naive(time)
    assert parse_naive(text) == time
    assert len(text.partition(".")[2]) in (0, 3, 6)


def test_naive_datetimes_of_any_precision_are_read() -> None:
    assert parse_naive("2025-01-31T12:00:00.5") == datetime(2025, 1, 31, 12, 0, 0, 500_000, UTC)
    assert parse_naive("2025-01-31T12:00:00.123456789") == datetime(2025, 1, 31, 12, 0, 0, 123_456, UTC)
    for text in ("", "2025-01-31", "2025-01-31T12:00:00Z", "2025-13-31T12:00:00", "2025-01-31T12:00:00."):
        with pytest.raises(ValueError):
            parse_naive(text)


def test_compression_settings() -> None:
    assert ImageCompression.parse("disabled").zstd_level is None
    assert ImageCompression.parse("zstd").zstd_level == 1
    assert ImageCompression.parse("zstd(19)").zstd_level == 19
    for text in ("", "zstd()", "zstd(23)", "lz4", "zstd (1)"):
        with pytest.raises(ValueError):
            ImageCompression.parse(text)
