"""Listing pages against the obvious way to do it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.witness.s3.listing import decode_token, encode_token, list_page

keys = st.lists(st.text("ab/\U0010ffff", min_size=1, max_size=6), unique=True, max_size=40).map(sorted)
words = st.text("ab/\U0010ffff", max_size=3)


def entries_of(found: list[str], prefix: str, delimiter: str, after: str) -> list[str]:
    """Keys and common prefixes in order, by looking at each key."""
    entries = set()
    for key in found:
        if key.startswith(prefix):
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            entries.add(key if cut < 0 else key[: cut + len(delimiter)])
    return sorted(entry for entry in entries if entry > after)


@given(keys, words, st.sampled_from(["", "/", "a", "/a"]), words, st.integers(0, 10))
def test_page_is_a_stretch_of_all_entries(
    found: list[str], prefix: str, delimiter: str, after: str, max_keys: int
) -> None:
    expected = entries_of(found, prefix, delimiter, after)
    page = list_page(found, prefix, delimiter, after, max_keys)
    assert sorted(page.keys + page.prefixes) == expected[:max_keys]
    assert page.truncated == (0 < max_keys < len(expected))
    assert page.last == (expected[:max_keys] or [""])[-1]
    assert all(entry in found for entry in page.keys)


@given(keys, words, st.sampled_from(["", "/", "a"]), st.integers(1, 5))
def test_pages_cover_everything_once(found: list[str], prefix: str, delimiter: str, max_keys: int) -> None:
    seen: list[str] = []
    after = ""
    while True:
        page = list_page(found, prefix, delimiter, after, max_keys)
        seen += sorted(page.keys + page.prefixes)
        if not page.truncated:
            break
        after = decode_token(encode_token(page.last))
    assert seen == entries_of(found, prefix, delimiter, "")


def test_cost_is_the_pages() -> None:
    """A folder of 300,000 keys is passed over, not walked through."""
    found = [f"{folder}/{number:06}" for folder in "abc" for number in range(100_000)]
    started = time.perf_counter()
    for _ in range(100):
        assert list_page(found, "", "/", "", 1000).prefixes == ["a/", "b/", "c/"]
        assert len(list_page(found, "b/", "", "b/050000", 1000).keys) == 1000
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("token", ["?", "%%", "a", "gICA"])
def test_bad_tokens(token: str) -> None:
    with pytest.raises(ValueError):
        decode_token(token)
