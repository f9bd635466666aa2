"""A run's results as a table for people, as Markdown, and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from test_runner.performance.machine import Machine
from test_runner.performance.result import Result, Side, with_unit

OPENING, CLOSING = "<!-- bench -->", "<!-- /bench -->"
_HEADINGS = ("what", "measured", "yardstick", "figure", "from … to", "runs", "budget", "")


@dataclass(frozen=True, slots=True)
class Report:
    """at: when the run began, ISO 8601. commit: of the tree, with a plus if it was changed."""

    at: str
    commit: str
    machine: Machine
    results: tuple[Result, ...]

    @property
    def over_budget(self) -> list[Result]:
        return [result for result in self.results if result.verdict == "over"]

    def to_json(self) -> dict[str, Any]:
        """Samples, medians, figures and budgets of every row."""
        return {
            "at": self.at,
            "commit": self.commit,
            "machine": asdict(self.machine),
            "results": [
                {
                    "what": result.what,
                    "subject": _side_json(result.subject),
                    "yardstick": None if result.yardstick is None else _side_json(result.yardstick),
                    "value": result.value,
                    "unit": result.unit,
                    "spread": list(result.spread),
                    "budget": None if result.budget is None else str(result.budget),
                    "verdict": result.verdict,
                }
                for result in self.results
            ],
        }

    def to_table(self) -> str:
        """Aligned columns."""
        rows = [_HEADINGS, *(_cells(result) for result in self.results)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([f"{self.at}, {self.commit}, {self.machine}", "", *lines])

    def to_markdown(self) -> str:
        """A table, below a line about the run."""
        rows = [_cells(result) for result in self.results]
        lines = [_HEADINGS, tuple("---" for _ in _HEADINGS), *rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{self.at}, commit {self.commit}, {self.machine}.\n\n{table}\n"


class BadDocument(ValueError):
    """It has no place for a table."""


def put_into(document: str, markdown: str) -> str:
    """The document with the table between its markers replaced. Raises BadDocument if it has none."""
    before, opening, rest = document.partition(OPENING)
    _, closing, after = rest.partition(CLOSING)
    if not opening or not closing:
        raise BadDocument(f"there is no {OPENING} followed by {CLOSING}")
    return f"{before}{OPENING}\n{markdown}{CLOSING}{after}"


def _side_json(side: Side) -> dict[str, Any]:
    return {**asdict(side), "median": side.median}


def _cells(result: Result) -> tuple[str, ...]:
    low, high = (with_unit(value, result.unit) for value in result.spread)
    return (
        result.what,
        f"{result.subject.what} {result.subject}",
        "" if result.yardstick is None else f"{result.yardstick.what} {result.yardstick}",
        with_unit(result.value, result.unit),
        f"{low} … {high}",
        str(len(result.subject.samples)),
        "" if result.budget is None else str(result.budget),
        result.verdict,
    )
