"""Keys: text, bytes, order, successor, the kinds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.api.key import (
    CHECKPOINT_KEY,
    CONTROLFILE_KEY,
    DBDIR_KEY,
    KEY_MAX,
    KEY_MIN,
    TWOPHASEDIR_KEY,
    Key,
    KeyRange,
    RelTag,
    SlruKind,
    reldir_key,
    relmap_key,
    slru_block_key,
    slru_dir_key,
    slru_segment_size_key,
)
from reattach.api.layer_name import LayerName
from test_runner.unit.api.strategies import keys, lsns

WIDTHS = (8, 32, 32, 32, 8, 32)


def as_number(key: Key) -> int:
    number = 0
    for field, width in zip(key, WIDTHS, strict=True):
        number = number << width | field
    return number


@given(keys)
def test_text_and_bytes_read_back(key: Key) -> None:
    assert Key.from_bytes(key.to_bytes()) == key
    assert Key.parse(str(key)) == Key.parse(str(key).lower()) == key
    assert str(key) == key.to_bytes().hex().upper()
    assert len(str(key)) == 36


@given(keys, keys)
def test_order_is_that_of_the_bytes(a: Key, b: Key) -> None:
    assert (a < b) == (a.to_bytes() < b.to_bytes())


@given(keys, st.integers(0, 2**33))
def test_advance_adds_to_the_whole_key(key: Key, n: int) -> None:
    total = as_number(key) + n
    if total >= 1 << sum(WIDTHS):
        with pytest.raises(OverflowError):
            key.advance(n)
    else:
        assert as_number(key.advance(n)) == total


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        (DBDIR_KEY, (0, 0, 0, 0, 0, 0)),
        (relmap_key(1663, 5), (0, 1663, 5, 0, 0, 0)),
        (reldir_key(1663, 5), (0, 1663, 5, 0, 0, 1)),
        (RelTag(1663, 5, 16384, 2).block(7), (0, 1663, 5, 16384, 2, 7)),
        (RelTag(1663, 5, 16384, 2).size_key(), (0, 1663, 5, 16384, 2, 0xFFFFFFFF)),
        (slru_dir_key(SlruKind.MULTIXACT_OFFSETS), (1, 2, 0, 0, 0, 0)),
        (slru_block_key(SlruKind.MULTIXACT_MEMBERS, 3, 9), (1, 1, 1, 3, 0, 9)),
        (slru_segment_size_key(SlruKind.CLOG, 3), (1, 0, 1, 3, 0, 0xFFFFFFFF)),
        (TWOPHASEDIR_KEY, (2, 0, 0, 0, 0, 0)),
        (CONTROLFILE_KEY, (3, 0, 0, 0, 0, 0)),
        (CHECKPOINT_KEY, (3, 0, 0, 0, 0, 1)),
    ],
)
def test_fields_of_each_kind(key: Key, fields: tuple[int, ...]) -> None:
    assert tuple(key) == fields


@given(keys, keys, lsns)
def test_layer_names_read_back_with_every_suffix(start: Key, end: Key, lsn: object) -> None:
    name = LayerName(KeyRange(start, end), lsn)  # type: ignore[arg-type]
    for text in (str(name), name.local_file(0x1F), name.remote_object(0x1F), name.local_file(None)):
        assert LayerName.parse(text) == name
    assert name.local_file(0x1F) == f"{name}-v1-0000001f"
    assert name.remote_object(0x1F) == f"{name}-0000001f"


@pytest.mark.parametrize("text", ["", "0" * 36, f"{KEY_MIN}-{KEY_MAX}_{1:016X}", f"{KEY_MIN}-{KEY_MAX}__1"])
def test_other_names_are_no_layers(text: str) -> None:
    with pytest.raises(ValueError):
        LayerName.parse(text)
