"""Failpoints: the action grammar, counts, chains, pauses."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.runtime.failpoints import FailpointPanic, Failpoints, parse_actions


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(0, 100),
            st.none() | st.integers(0, 50),
            st.sampled_from(["off", "return", "pause", "yield", "print", "panic", "exit"]),
            st.none() | st.text("abc 123", max_size=5),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_grammar(terms: list[tuple[int | None, int | None, str, str | None]]) -> None:
    text = "->".join(
        ("" if pct is None else f"{pct}%")
        + ("" if cnt is None else f"{cnt}*")
        + kind
        + ("" if arg is None else f"({arg})")
        for pct, cnt, kind, arg in terms
    )
    actions = parse_actions(text)
    assert [(a.kind, a.arg, a.remaining) for a in actions] == [(k, arg, c) for _, c, k, arg in terms]
    assert [a.probability for a in actions] == [(100 if p is None else p) / 100 for p, _, _, _ in terms]


@pytest.mark.parametrize(
    "text", ["", "retrun", "3*", "sleep", "sleep(x)", "delay()", "pause->", "*off", "return("]
)
def test_bad_actions_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_actions(text)


@given(st.integers(0, 5), st.integers(0, 5))
def test_counts_and_chains(first: int, second: int) -> None:
    points = Failpoints()
    points.configure("p", f"{first}*off->{second}*return(x)->off")

    async def hits() -> list[str | None]:
        return [await points.hit("p") for _ in range(first + second + 2)]

    assert asyncio.run(hits()) == [None] * first + ["x"] * second + [None, None]


def test_zero_percent_never_and_hundred_always() -> None:
    points = Failpoints()
    points.configure("never", "0%return")
    points.configure("always", "100%return(1)")

    async def hits() -> set[tuple[str | None, str | None]]:
        return {(await points.hit("never"), await points.hit("always")) for _ in range(50)}

    assert asyncio.run(hits()) == {(None, "1")}


def test_pause_lasts_until_the_failpoint_is_configured_again() -> None:
    async def scenario() -> None:
        points = Failpoints()
        points.configure("p", "pause")
        waiting = [asyncio.create_task(points.pausable("p")) for _ in range(3)]
        done, _ = await asyncio.wait(waiting, timeout=0.02)
        assert not done
        points.configure("p", "off")
        await asyncio.wait_for(asyncio.gather(*waiting), 1)

    asyncio.run(scenario())


def test_pausable_logs_whenever_it_is_reached(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    asyncio.run(Failpoints().pausable("somewhere"))
    assert "at failpoint somewhere" in caplog.messages


def test_return_is_not_supported_at_a_pausable_place() -> None:
    points = Failpoints()
    points.configure("p", "return")
    with pytest.raises(FailpointPanic):
        asyncio.run(points.pausable("p"))


def test_sleep_sleeps() -> None:
    points = Failpoints()
    points.configure("p", "1*sleep(30)")
    began = time.monotonic()
    asyncio.run(points.pausable("p"))
    assert time.monotonic() - began >= 0.03


def test_environment_form() -> None:
    points = Failpoints()
    points.configure_from_env("a=return(1); b=2*off->return(2)")

    async def hits() -> list[str | None]:
        return [await points.hit(name) for name in "abbb"]

    assert asyncio.run(hits()) == ["1", None, None, "2"]
    with pytest.raises(ValueError):
        points.configure_from_env("a")
