"""When a job counts as stuck, by a clock that the test moves."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from reattach.fixtures.explore.patience import LONGEST, Patience


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.changes = 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


def seconds_until_over(clock: Clock, patience: Patience, tick: Callable[[], None] = lambda: None) -> float:
    began = clock.now
    while not patience.is_over:
        clock.now += 0.05
        tick()
    return clock.now - began


def test_what_changes_nothing_is_stuck(clock: Clock) -> None:
    patience = Patience(3, lambda: clock.changes)
    assert seconds_until_over(clock, patience) == pytest.approx(3, abs=0.1)


def test_what_changes_something_is_not(clock: Clock) -> None:
    """However long it takes, and however slow it is: one change in each patience is enough."""
    patience = Patience(3, lambda: clock.changes)

    def tick() -> None:
        clock.changes = min(int((clock.now - 100) / 2.5), 8)

    assert seconds_until_over(clock, patience, tick) == pytest.approx(8 * 2.5 + 3, abs=0.5)


def test_what_only_goes_round_in_circles_is_stuck_in_the_end(clock: Clock) -> None:
    patience = Patience(3, lambda: clock.changes)

    def tick() -> None:
        clock.changes += 1

    assert seconds_until_over(clock, patience, tick) == pytest.approx(3 * LONGEST, abs=0.1)


def test_with_a_step_all_begins_anew(clock: Clock) -> None:
    patience = Patience(3, lambda: clock.changes)
    clock.now += 2.9
    patience.renew()
    assert seconds_until_over(clock, patience) == pytest.approx(3, abs=0.1)


def test_a_change_at_the_last_moment_is_seen(clock: Clock) -> None:
    patience = Patience(0.2, lambda: clock.changes)
    assert not patience.is_over
    clock.now += 0.2
    clock.changes += 1
    assert not patience.is_over
