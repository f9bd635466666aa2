"""I8 byte by byte: what the comparison sees, and how it says so."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.api.key import (
    BLCKSZ,
    CONTROLFILE_KEY,
    DEFAULTTABLESPACE_OID,
    GLOBALTABLESPACE_OID,
    Key,
    RelTag,
    SlruKind,
    relmap_key,
    slru_block_key,
)
from reattach.api.timeline import ScanDisposableKeysResponse
from reattach.fixtures.backup.source_files import LocalFiles, imported_file
from reattach.fixtures.compare import (
    DataDiffers,
    DifferentBytes,
    ExtraFile,
    ForeignKeys,
    MissingFile,
    Placement,
    assert_own_keys,
    assert_same,
    differences,
)
from test_runner.unit.fullbackup.pgdata import make_pgdata

RELATION = "base/5/16384"


def locate(key: Key) -> Placement:
    return Placement("0102", f"LAYER-OF-{key.field4}" if key.field1 == 0 else None)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """The bucket's data directory, and an equal one."""
    return make_pgdata(tmp_path / "bucket"), make_pgdata(tmp_path / "backup")


def only_difference(two: tuple[Path, Path]) -> object:
    (found,) = differences(LocalFiles(two[0]), LocalFiles(two[1]))
    return found


def change(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("base/5/16384", RelTag(DEFAULTTABLESPACE_OID, 5, 16384, 0).block(7)),
        ("base/5/16384.2", RelTag(DEFAULTTABLESPACE_OID, 5, 16384, 0).block(2 * 131072 + 7)),
        ("base/16390/12_vm", RelTag(DEFAULTTABLESPACE_OID, 16390, 12, 2).block(7)),
        ("global/1262_fsm.1", RelTag(GLOBALTABLESPACE_OID, 0, 1262, 1).block(131072 + 7)),
        ("base/5/99_init", RelTag(DEFAULTTABLESPACE_OID, 5, 99, 3).block(7)),
        ("pg_xact/00FF", slru_block_key(SlruKind.CLOG, 255, 7)),
        ("pg_multixact/members/1", slru_block_key(SlruKind.MULTIXACT_MEMBERS, 1, 7)),
        ("pg_multixact/offsets/0010", slru_block_key(SlruKind.MULTIXACT_OFFSETS, 16, 7)),
        ("base/5/pg_filenode.map", relmap_key(DEFAULTTABLESPACE_OID, 5)),
        ("global/pg_filenode.map", relmap_key(GLOBALTABLESPACE_OID, 0)),
        ("global/pg_control", CONTROLFILE_KEY),
    ],
)
def test_key_of_a_block(path: str, key: Key) -> None:
    file = imported_file(path)
    assert file is not None
    assert file.key(7) == key


@pytest.mark.parametrize(
    "path",
    [
        "PG_VERSION",
        "base/5/PG_VERSION",
        "base/5/pg_internal.init",
        "base/5/t3_16384",
        "base/5/16384_foo",
        "base/pgsql_tmp/1",
        "base/5/sub/16384",
        "pg_xact/0000.tmp",
        "pg_wal/000000010000000000000001",
        "pg_subtrans/0000",
        "global/pg_control.old",
        "pg_tblspc/16390/PG_16/5/16384",
    ],
)
def test_files_that_no_import_reads(path: str) -> None:
    assert imported_file(path) is None


def test_equal(two: tuple[Path, Path]) -> None:
    (two[1] / "postgresql.conf").write_text("port = 1")
    (two[0] / "base/5/pg_internal.init").write_text("cache")
    assert_same(LocalFiles(two[0]), LocalFiles(two[1]), locate)


@given(offset=st.integers(0, 40 * BLCKSZ - 1), change_by=st.integers(1, 255))
def test_any_changed_byte_is_found(
    tmp_path_factory: pytest.TempPathFactory, offset: int, change_by: int
) -> None:
    two = _shared(tmp_path_factory)
    original = (two[0] / RELATION).read_bytes()[offset]
    change(two[1] / RELATION, offset, bytes([original ^ change_by]))
    try:
        found = only_difference(two)
    finally:
        change(two[1] / RELATION, offset, bytes([original]))
    assert found == DifferentBytes(
        imported_file(RELATION) or pytest.fail(), offset, original, original ^ change_by, 1
    )


_pair: list[tuple[Path, Path]] = []


def _shared(factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if not _pair:
        directory = factory.mktemp("compare")
        _pair.append((make_pgdata(directory / "bucket"), make_pgdata(directory / "backup")))
    return _pair[0]


def test_message_names_file_block_byte_key_shard_and_layer(two: tuple[Path, Path]) -> None:
    change(two[1] / RELATION, 3 * BLCKSZ + 77, b"\xab\xcd")
    change(two[1] / RELATION, 9 * BLCKSZ, b"\xef")
    expected = (two[0] / RELATION).read_bytes()[3 * BLCKSZ + 77]
    key = RelTag(DEFAULTTABLESPACE_OID, 5, 16384, 0).block(3)
    with pytest.raises(DataDiffers) as failure:
        assert_same(LocalFiles(two[0]), LocalFiles(two[1]), locate)
    assert str(failure.value) == (
        "I8: 1 file of the import differs from the bucket\n"
        f"  base/5/16384: block 3 differs first at byte 77 (byte {3 * BLCKSZ + 77} of the file): "
        f"the bucket has 0x{expected:02X}, the import 0xAB; 2 blocks differ; "
        f"key {key}, shard 0102, layer LAYER-OF-16384"
    )
    assert len(str(key)) == 36


@pytest.mark.parametrize("shorter", [0, 1])
def test_a_file_that_ends_early(two: tuple[Path, Path], shorter: int) -> None:
    with (two[shorter] / RELATION).open("r+b") as file:
        file.truncate(38 * BLCKSZ)
    found = only_difference(two)
    assert isinstance(found, DifferentBytes)
    assert (found.offset, found.blocks) == (38 * BLCKSZ, 2)
    assert (found.expected is None, found.seen is None) == (shorter == 0, shorter == 1)
    text = found.describe(locate)
    assert ("the bucket has end of file" if shorter == 0 else "the import end of file") in text


def test_missing_and_extra_files(two: tuple[Path, Path]) -> None:
    (two[1] / "pg_xact/0001").unlink()
    (two[1] / "base/5/70000").write_bytes(b"")
    extra, missing = differences(LocalFiles(two[0]), LocalFiles(two[1]))
    assert isinstance(missing, MissingFile)
    assert missing.describe(locate).startswith("pg_xact/0001: is missing, from its block 0 on; key 01")
    assert missing.describe(locate).endswith("shard 0102, in no layer")
    assert isinstance(extra, ExtraFile)
    assert extra.describe(locate).startswith("base/5/70000: the bucket has no such file; key 00")


def test_an_empty_segment_after_the_last_is_nothing(two: tuple[Path, Path]) -> None:
    """Postgres leaves it when it truncates a relation."""
    (two[0] / f"{RELATION}.1").write_bytes(b"")
    assert not list(differences(LocalFiles(two[0]), LocalFiles(two[1])))
    (two[0] / "base/5/70000").write_bytes(b"")
    assert isinstance(only_difference(two), MissingFile)


def test_ignored_files_are_not_compared(two: tuple[Path, Path]) -> None:
    change(two[1] / "global/pg_control", 5, b"\xff")
    assert isinstance(only_difference(two), DifferentBytes)
    assert_same(LocalFiles(two[0]), LocalFiles(two[1]), locate, ignore={"global/pg_control"})


def test_many_differences_are_counted(two: tuple[Path, Path]) -> None:
    for number in range(15):
        (two[1] / f"base/5/{80000 + number}").write_bytes(b"")
    with pytest.raises(DataDiffers) as failure:
        assert_same(LocalFiles(two[0]), LocalFiles(two[1]), locate)
    assert str(failure.value).startswith("I8: 15 files of the import differ")
    assert str(failure.value).endswith("and 5 more files")
    assert len(failure.value.differences) == 15


def test_foreign_keys_are_named() -> None:
    """I8: each shard holds only its own keys."""
    clean, dirty = ScanDisposableKeysResponse(0, 10), ScanDisposableKeysResponse(3, 7)
    assert_own_keys({"0002": {"A": clean}, "0102": {}})
    with pytest.raises(ForeignKeys) as failure:
        assert_own_keys({"0002": {"A": clean}, "0102": {"B": dirty, "C": clean}})
    assert str(failure.value).splitlines()[1:] == ["  shard 0102: layer B holds 3 keys of other shards"]


def test_order_of_listing_does_not_matter(two: tuple[Path, Path]) -> None:
    class Shuffled(LocalFiles):
        def sizes(self) -> dict[str, int]:
            items = list(super().sizes().items())
            random.Random(1).shuffle(items)
            return dict(items)

    change(two[1] / RELATION, 0, b"\xff\xff")
    change(two[1] / "pg_xact/0000", 0, b"\xff\xff")
    found = [d.file.path for d in differences(Shuffled(two[0]), Shuffled(two[1]))]
    assert found == [RELATION, "pg_xact/0000"]
