"""A figure, both sides that it comes from, and the budget that it should keep."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Side:
    """One thing that was measured, several times. unit: "s", "MiB", "/s" or "MiB/s"."""

    what: str
    unit: str
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def __str__(self) -> str:
        return with_unit(self.median, self.unit)


@dataclass(frozen=True, slots=True)
class Budget:
    """A bound on a figure: from above if `at_most`, from below otherwise."""

    bound: float
    unit: str
    at_most: bool

    def holds(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {with_unit(self.bound, self.unit)}"


def at_most(bound: float, unit: str) -> Budget:
    return Budget(bound, unit, at_most=True)


def at_least(bound: float, unit: str = "×") -> Budget:
    return Budget(bound, unit, at_most=False)


@dataclass(frozen=True, slots=True)
class Result:
    """One row. `value` is the figure: a ratio ("×") where there is a yardstick, else the subject's median.

    what: the row's name for a reader. spread: the smallest and largest single figure.
    """

    what: str
    subject: Side
    yardstick: Side | None
    value: float
    unit: str
    spread: tuple[float, float]
    budget: Budget | None = None

    @property
    def verdict(self) -> str:
        """ "ok", "over", or nothing without a budget."""
        if self.budget is None:
            return ""
        return "ok" if self.budget.holds(self.value) else "over"

    def __str__(self) -> str:
        figure = f"{self.what}: {with_unit(self.value, self.unit)}"
        return figure if self.budget is None else f"{figure}, {self.budget}: {self.verdict}"

    def scaled(self, factor: float, budget: Budget | None) -> Result:
        """The same sides, the figure multiplied: of a unit instead of the whole, say."""
        low, high = self.spread
        spread = (low * factor, high * factor)
        return replace(self, value=self.value * factor, spread=spread, budget=budget)


def single(what: str, subject: Side, budget: Budget | None = None) -> Result:
    """A row whose figure is the subject's median."""
    spread = (min(subject.samples), max(subject.samples))
    return Result(what, subject, None, subject.median, subject.unit, spread, budget)


def as_fast_as(what: str, subject: Side, yardstick: Side, budget: Budget | None = None) -> Result:
    """How many times as fast as the yardstick: the median over pairs that were measured one after the other.

    Seconds count the other way round than rates.
    """
    pairs = list(zip(subject.samples, yardstick.samples, strict=True))
    ratios = [b / a if subject.unit == "s" else a / b for a, b in pairs]
    return _ratio(what, subject, yardstick, ratios, budget)


def as_long_as(what: str, subject: Side, yardstick: Side, budget: Budget | None = None) -> Result:
    """How many times as long as the yardstick, or as much: the median over pairs."""
    ratios = [a / b for a, b in zip(subject.samples, yardstick.samples, strict=True)]
    return _ratio(what, subject, yardstick, ratios, budget)


def _ratio(
    what: str, subject: Side, yardstick: Side, ratios: Sequence[float], budget: Budget | None
) -> Result:
    spread = (min(ratios), max(ratios))
    return Result(what, subject, yardstick, statistics.median(ratios), "×", spread, budget)


def with_unit(value: float, unit: str) -> str:
    """A figure as it stands in a table, with three digits that count."""
    if unit == "s" and value < 1:
        return f"{value * 1000:.0f} ms" if value >= 0.01 else f"{value * 1000:.2g} ms"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    text = f"{value:,.{digits}f}"
    return f"{text} {unit}" if unit != "×" else f"{text} ×"
