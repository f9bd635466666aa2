"""Durations, back-off and error texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.runtime.backoff import delay_before, soon
from reattach.runtime.errors import InternalError, NotFound, cause_chain
from reattach.runtime.humantime import parse_duration

UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1,
    "m": 60,
    "min": 60,
    "h": 3600,
    "d": 86400,
    "weeks": 604800,
}


@given(st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(sorted(UNITS))), min_size=1, max_size=4))
def test_durations_add_up(parts: list[tuple[int, str]]) -> None:
    expected = pytest.approx(sum(n * UNITS[unit] for n, unit in parts))
    assert parse_duration(" ".join(f"{n}{unit}" for n, unit in parts)) == expected
    assert parse_duration("".join(f"{n} {unit}" for n, unit in parts)) == expected


@pytest.mark.parametrize(
    "text", ["", "10", "s", "1 fortnight", "-1s", "1.5s", "1s x", "9" * 19 + "d", "9" * 400 + "s", "²s"]
)
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


def test_back_off_starts_at_once_grows_and_stays_bounded() -> None:
    delays = [delay_before(n) for n in range(40)]
    assert delays[0] == 0
    assert delays == sorted(delays)
    assert delays[1] == pytest.approx(1.1)
    assert delays[-1] == 3.0
    soon_ones = [soon(n) for n in range(40)]
    assert soon_ones[:3] == [0, 0.05, 0.1]
    assert soon_ones == sorted(soon_ones)
    assert soon_ones[-1] == 3.0


def test_cause_chain_names_every_cause_once() -> None:
    try:
        try:
            raise OSError("disk")
        except OSError as e:
            raise NotFound("layer") from e
    except NotFound as e:
        outer = InternalError("import")
        outer.__cause__ = e
    assert cause_chain(outer) == "import: NotFound: layer: disk"
