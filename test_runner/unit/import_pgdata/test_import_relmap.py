"""Relation maps: read, and refused when damaged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.pageserver.import_pgdata.errors import ObjectError
from reattach.pageserver.import_pgdata.relmap import read_relmap
from test_runner.unit.import_pgdata.data_directory import relmap

versions = st.sampled_from([14, 15, 16, 17])
oids = st.integers(1, 2**32 - 1)


@given(versions, st.dictionaries(oids, oids, max_size=62))
def test_what_was_written_is_read(version: int, mapped: dict[int, int]) -> None:
    assert read_relmap("map", relmap(version, mapped)) == mapped


@given(versions, st.data())
def test_every_flipped_bit_is_noticed(version: int, data: st.DataObject) -> None:
    """I11: but for the padding that older versions have at the end."""
    raw = bytearray(relmap(version, {1259: 1259, 1249: 1249}))
    end = len(raw) - (4 if version < 16 else 0)
    raw[data.draw(st.integers(0, end - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ObjectError, match=r"^map: "):
        read_relmap("map", bytes(raw))


def test_random_bytes_are_no_map() -> None:
    with pytest.raises(ObjectError, match="header"):
        read_relmap("map", bytes(512))
