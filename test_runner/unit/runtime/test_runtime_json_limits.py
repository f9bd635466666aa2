"""What no body may hold, whatever its shape."""

from __future__ import annotations

import pytest

from reattach.api import codec
from reattach.runtime import json_limits


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (rb'"a\u0000"', "NUL"),
        (rb'{"\u0000": 1}', "NUL"),
        (rb'[["\\\u0000"]]', "NUL"),
        (b"[18446744073709551616]", "64 bits"),
        (b'{"a": -9223372036854775809}', "64 bits"),
        (b"[" * 66 + b"]" * 66, "nested deeper than 64"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "recursion|nested deeper than 64"),
        (b"[" * 100_000, "recursion|Stack overflow|malformed|truncated"),
        (b'"' + b"1" * 20, "truncated"),
    ],
)
def test_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        json_limits.check(raw)


@pytest.mark.parametrize(
    "raw",
    [
        rb'"\\u0000"',
        b"[18446744073709551615, -9223372036854775808, 1e300, 0.12345678901234567890]",
        b"[" * 64 + b"1" + b"]" * 64,
        b"[" + b"[]," * 1000 + b"[]]",
        b"not JSON: for others to say",
    ],
)
def test_let_through(raw: bytes) -> None:
    json_limits.check(raw)


def test_what_cannot_be_read_is_a_decode_error() -> None:
    """Deep, or no UTF-8: whoever reads JSON expects one kind of error."""
    # How deep is too deep for a parser differs from one Python to the next.
    for raw in (b"[" * 100_000 + b"]" * 100_000, b'"\xff"'):
        with pytest.raises(codec.DecodeError):
            codec.decode(raw, object)
