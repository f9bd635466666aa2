"""Messages are the same however the network cuts them, and nothing of them changes."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.witness.postgres.framing import NotPostgres, error_response, sqlstate_in, startup_packet
from reattach.witness.postgres.stream import BULK, Stream

messages = st.lists(
    st.tuples(st.sampled_from(b"dDQCZ"), st.binary(max_size=40)),
    max_size=20,
)
cuts = st.lists(st.integers(1, 60), max_size=40)


def text_of(wanted: list[tuple[int, bytes]]) -> list[bytes]:
    return [bytes([kind]) + struct.pack("!I", len(body) + 4) + body for kind, body in wanted]


@given(messages, cuts)
def test_any_cut(wanted: list[tuple[int, bytes]], cuts: list[int]) -> None:
    """Other messages come whole, one by one; rows come as they are; together they are all that was sent."""
    stream = Stream(b"dD")
    texts = text_of(wanted)
    text = b"".join(texts)
    passed: list[bytes] = []
    whole: list[bytes] = []
    at = 0
    for cut in [*cuts, len(text) + 1]:
        stream.feed(text[at : at + cut])
        at += cut
        while (found := stream.peek()) is not None:
            assert stream.peek() == found
            stream.take()
            passed.append(found[1])
            if found[0] != BULK:
                whole.append(found[1])
    assert b"".join(passed) == text
    assert whole == [one for (kind, _), one in zip(wanted, texts, strict=True) if kind not in b"dD"]
    assert stream.size == 0


def test_rows_are_not_waited_for() -> None:
    """Half of a row passes at once."""
    stream = Stream(b"d")
    (row,) = text_of([(ord("d"), b"x" * 100)])
    stream.feed(row[:50])
    assert stream.peek() == (BULK, row[:50])
    stream.take()
    stream.feed(row[50:] + b"Z")
    assert stream.peek() == (BULK, row[50:])


def test_long_message() -> None:
    """It is joined once, so twice the length takes twice the time; and what follows is not lost."""
    stream = Stream(b"d")
    query, ready = text_of([(ord("Q"), bytes(1 << 25)), (ord("S"), b"")])
    text = query + ready
    began = time.process_time()
    for at in range(0, len(text), 1 << 12):
        stream.feed(text[at : at + (1 << 12)])
        found = stream.peek()
        assert (found is None) == (at + (1 << 12) < len(query))
    assert stream.size == len(text)
    assert stream.peek() == (ord("Q"), query)
    stream.take()
    assert stream.peek() == (ord("S"), ready)
    # Joined at each piece it would be 128 GiB that are copied.
    assert time.process_time() - began < 5


@pytest.mark.parametrize("length", [0, 3, 1 << 30])
def test_no_message(length: int) -> None:
    stream = Stream(b"d")
    stream.feed(b"Q" + struct.pack("!I", length))
    with pytest.raises(NotPostgres, match=r"a message of type b'Q' and .* bytes"):
        stream.peek()


def test_no_startup_packet() -> None:
    assert startup_packet(b"\0\0\0") is None
    with pytest.raises(NotPostgres, match="a startup packet of"):
        startup_packet(b"GET / HT")


@pytest.mark.parametrize(("status", "code"), [(503, "57P03"), (409, "40001"), (500, "XX000"), (418, "XX000")])
def test_errors(status: int, code: str) -> None:
    message = error_response(status, "why")
    assert sqlstate_in(message[5:]) == code
    assert len(message) == struct.unpack_from("!xI", message)[0] + 1
