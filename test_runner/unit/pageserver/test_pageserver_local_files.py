"""A timeline's directory against its index."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.api.ids import ShardIndex
from reattach.api.key import Key, KeyRange
from reattach.api.layer_name import LayerName
from reattach.api.lsn import Lsn
from reattach.pageserver.layers.index_part import LayerFileMetadata
from reattach.pageserver.timeline.local_files import UnknownFiles, reconcile, tidy


def name(number: int) -> LayerName:
    start, end = (Key(0, 1663, 5, 16384, 0, block) for block in (number, number + 1))
    return LayerName(KeyRange(start, end), Lsn(0x1500028))


def metadata(size: int, generation: int | None) -> LayerFileMetadata:
    return LayerFileMetadata.written_by(size, generation, ShardIndex(0, 0), None)


INDEX = {name(0): metadata(10, 3), name(1): metadata(11, 4)}

generations = st.one_of(st.none(), st.integers(1, 5))
layer_files = st.builds(lambda number, generation: (number, generation), st.integers(0, 3), generations)


@given(
    st.dictionaries(layer_files, st.integers(9, 12)),
    st.dictionaries(st.integers(0, 3), st.tuples(st.integers(9, 12), st.integers(1, 5))),
)
def test_what_stays_is_what_the_index_describes(
    found: dict[tuple[int, int | None], int], indexed: dict[int, tuple[int, int]]
) -> None:
    """I8: no local file of another size or another generation is ever taken for the index's layer."""
    files = {name(number).local_file(generation): size for (number, generation), size in found.items()}
    index = {name(number): metadata(size, generation) for number, (size, generation) in indexed.items()}
    result = reconcile(files, index)
    kept = set(files) - set(result.remove) - set(result.rename) | set(result.rename.values())
    assert kept == {each.local_file(index[each].generation) for each in result.resident}
    for each in result.resident:
        sources = [
            old for old, new in result.rename.items() if new == each.local_file(index[each].generation)
        ]
        source = sources[0] if sources else each.local_file(index[each].generation)
        assert files[source] == index[each].file_size
    for each, wanted in index.items():
        if files.get(each.local_file(wanted.generation)) == wanted.file_size:
            assert each in result.resident


def test_left_overs_go() -> None:
    leftovers = ["x.old", "y.1f.temp_download", "z.7.___temp", "ephemeral-15"]
    result = reconcile(dict.fromkeys(leftovers, 0), INDEX)
    assert sorted(result.remove) == sorted(leftovers)


def test_unknown_files_are_an_error() -> None:
    with pytest.raises(UnknownFiles, match=r"total 2\), first 10: README, ephemeral-x"):
        reconcile({"README": 1, "ephemeral-x": 1, name(0).local_file(3): 10}, INDEX)


def test_tidy(tmp_path: Path) -> None:
    directory = tmp_path / "timeline"
    assert tidy(directory, INDEX) == set()
    good, old_style, stray = name(0).local_file(3), str(name(1)), name(2).local_file(3)
    (directory / good).write_bytes(bytes(10))
    (directory / old_style).write_bytes(bytes(11))
    (directory / stray).write_bytes(bytes(12))
    assert tidy(directory, INDEX) == {name(0), name(1)}
    assert {path.name for path in directory.iterdir()} == {good, name(1).local_file(4)}
