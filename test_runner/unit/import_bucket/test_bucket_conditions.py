"""Range and conditional headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.witness.s3.conditions import (
    UnsatisfiableRange,
    copy_refused,
    failed_precondition,
    is_not_modified,
    resolve_range,
)

PAST, FUTURE = "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
NOW = 1_700_000_000.5


@given(st.binary(max_size=20), st.integers(0, 25), st.integers(0, 25))
def test_ranges_are_slices(content: bytes, first: int, last: int) -> None:
    header = f"bytes={first}-{last}"
    if first >= len(content):
        with pytest.raises(UnsatisfiableRange):
            resolve_range(header, len(content))
        return
    resolved = resolve_range(header, len(content))
    if last < first:
        assert resolved is None
    else:
        assert resolved is not None
        assert content[slice(*resolved)] == content[first : last + 1]


@given(st.binary(min_size=1, max_size=20), st.integers(1, 25))
def test_suffixes(content: bytes, size: int) -> None:
    resolved = resolve_range(f"bytes=-{size}", len(content))
    assert resolved is not None
    assert content[slice(*resolved)] == content[-size:]


@pytest.mark.parametrize(
    "header", [None, "", "bytes", "bytes=", "bytes=-", "bytes=1-2,4-5", "lines=1-2", "bytes=a-"]
)
def test_what_is_no_range_asks_for_all(header: str | None) -> None:
    assert resolve_range(header, 10) is None


@pytest.mark.parametrize("header", ["bytes=-0", "bytes=10-", "bytes=10-20"])
def test_unsatisfiable(header: str) -> None:
    with pytest.raises(UnsatisfiableRange):
        resolve_range(header, 10)


@pytest.mark.parametrize(
    ("headers", "failed"),
    [
        ({}, None),
        ({"if-match": '"e"'}, None),
        ({"if-match": "e"}, None),
        ({"if-match": "*"}, None),
        ({"if-match": '"x", "e"'}, None),
        ({"if-match": '"x"'}, "If-Match"),
        ({"if-unmodified-since": FUTURE}, None),
        ({"if-unmodified-since": PAST}, "If-Unmodified-Since"),
        ({"if-unmodified-since": "nonsense"}, None),
        ({"if-match": '"e"', "if-unmodified-since": PAST}, None),
    ],
)
def test_preconditions(headers: dict[str, str], failed: str | None) -> None:
    assert failed_precondition(headers, "e", NOW) == failed


@pytest.mark.parametrize(
    ("headers", "not_modified"),
    [
        ({}, False),
        ({"if-none-match": 'W/"e"'}, True),
        ({"if-none-match": '"x"'}, False),
        ({"if-modified-since": FUTURE}, True),
        ({"if-modified-since": PAST}, False),
        ({"if-none-match": '"x"', "if-modified-since": FUTURE}, False),
    ],
)
def test_not_modified(headers: dict[str, str], not_modified: bool) -> None:
    assert is_not_modified(headers, "e", NOW) is not_modified


def test_copy_conditions() -> None:
    assert copy_refused({"if-match": '"x"'}, "e", NOW) is None
    assert copy_refused({"x-amz-copy-source-if-match": '"x"'}, "e", NOW) == "x-amz-copy-source-If-Match"
    assert copy_refused({"x-amz-copy-source-if-none-match": '"e"'}, "e", NOW) is not None
