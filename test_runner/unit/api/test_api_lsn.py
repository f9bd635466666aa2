"""Lsn: text, order, alignment, segments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.api import codec
from reattach.api.lsn import Lsn
from test_runner.unit.api.strategies import lsns


@given(lsns)
def test_text_reads_back_in_either_case_and_with_spaces(lsn: Lsn) -> None:
    high, low = lsn.lsn_int >> 32, lsn.lsn_int & 0xFFFFFFFF
    assert str(lsn) == f"{high:X}/{low:X}"
    assert Lsn(str(lsn)) == Lsn(f"  {lsn} ".lower()) == lsn
    assert codec.decode(codec.encode(lsn), Lsn) == lsn


@given(st.integers(0, 2**63))
def test_segment_contains_its_lsn(value: int) -> None:
    lsn = Lsn(value)
    assert 0 <= lsn - lsn.segment_lsn() < 16 * 1024 * 1024
    assert lsn.segno() == value // (16 * 1024 * 1024)


def test_segment_names() -> None:
    assert Lsn("0/1500028").segment_name() == "000000010000000000000001"
    assert Lsn("A/FF000000").segment_name() == "000000010000000A000000FF"


@pytest.mark.parametrize(
    "text", ["", "/", "0", "0/", "/0", "1/2/3", "0/100000000", "g/0", "-1/0", "0x1/0", "+1/0", "1_0/0"]
)
def test_bad_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Lsn(text)


@pytest.mark.parametrize("number", [-1, 2**64])
def test_numbers_of_more_than_64_bits_are_refused(number: int) -> None:
    with pytest.raises(ValueError):
        Lsn(number)
