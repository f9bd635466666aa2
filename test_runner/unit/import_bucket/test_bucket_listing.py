"""Listing pages against the obvious way to do it."""

from __future__ import annotations

import time

import pytest

from reattach.witness.s3.listing import decode_token, list_page


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
