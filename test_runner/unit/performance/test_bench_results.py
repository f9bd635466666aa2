"""The benchmark's figures, budgets, history and picture."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from test_runner.performance import history
from test_runner.performance.machine import Machine
from test_runner.performance.report import BadDocument, Report, put_into
from test_runner.performance.result import (
    Result,
    Side,
    as_fast_as,
    as_long_as,
    at_least,
    at_most,
    single,
    with_unit,
)

SLOW, FAST = Side("slow", "s", (2.0, 4.0, 3.0)), Side("fast", "s", (1.0, 1.0, 1.0))


def report(*results: Result) -> Report:
    return Report("2030-01-02T03:04:05+00:00", "abc123", Machine.here(), results)


def test_seconds_and_rates_count_the_other_way_round() -> None:
    assert as_fast_as("x", FAST, SLOW).value == 3.0
    assert as_fast_as("x", SLOW, FAST).value == pytest.approx(1 / 3)
    many, few = Side("many", "/s", (300.0,)), Side("few", "/s", (100.0,))
    assert as_fast_as("x", many, few).value == 3.0
    assert as_long_as("x", SLOW, FAST).value == 3.0


def test_the_figure_is_the_median_over_pairs() -> None:
    subject, yardstick = Side("a", "s", (1.0, 10.0, 100.0)), Side("b", "s", (2.0, 10.0, 400.0))
    found = as_fast_as("x", subject, yardstick)
    assert (found.value, found.spread) == (2.0, (1.0, 4.0))


def test_sides_must_be_pairs() -> None:
    with pytest.raises(ValueError, match="zip"):
        as_fast_as("x", SLOW, Side("b", "s", (1.0,)))


def test_verdicts() -> None:
    assert single("x", SLOW, at_most(3.0, "s")).verdict == "ok"
    assert single("x", SLOW, at_most(2.9, "s")).verdict == "over"
    assert as_fast_as("x", FAST, SLOW, at_least(3)).verdict == "ok"
    assert as_fast_as("x", FAST, SLOW, at_least(3.1)).verdict == "over"
    assert single("x", SLOW).verdict == ""


def test_a_figure_on_its_own() -> None:
    assert str(single("x", SLOW, at_most(2.9, "s"))) == "x: 3.00 s, ≤ 2.90 s: over"
    assert str(as_fast_as("x", FAST, SLOW)) == "x: 3.00 ×"


def test_scaled() -> None:
    found = as_long_as("x", SLOW, FAST).scaled(0.5, at_most(1.15, "×"))
    assert (found.value, found.spread, found.verdict) == (1.5, (1.0, 2.0), "over")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.00213, "s", "2.1 ms"),
        (0.2345, "s", "234 ms"),
        (1.234, "s", "1.23 s"),
        (12.34, "MiB", "12.3 MiB"),
        (12345.6, "/s", "12,346 /s"),
        (0.4, "×", "0.40 ×"),
    ],
)
def test_figures_have_three_digits(value: float, unit: str, text: str) -> None:
    assert with_unit(value, unit) == text


def test_table_and_markdown_name_both_sides_and_the_verdict() -> None:
    shown = report(as_fast_as("import", SLOW, FAST, at_least(0.4)))
    for text in (shown.to_table(), shown.to_markdown()):
        assert all(
            part in text for part in ("import", "slow 3.00 s", "fast 1.00 s", "0.33 ×", "≥ 0.40 ×", "over")
        )
    assert [result.what for result in shown.over_budget] == ["import"]


def test_a_document_gets_the_table_between_its_markers() -> None:
    text = "before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n"
    once = put_into(text, report(single("x", FAST)).to_markdown())
    assert once.startswith("before\n<!-- bench -->\n") and once.endswith("<!-- /bench -->\nafter\n")
    assert "old" not in once
    assert put_into(once, report(single("x", FAST)).to_markdown()) == once
    with pytest.raises(BadDocument):
        put_into("no markers", "table")


def test_history_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "below" / "history.jsonl"
    assert history.load(path) == []
    first, second = report(single("x", FAST)).to_json(), report(single("x", SLOW)).to_json()
    history.append(path, first)
    history.append(path, second)
    assert history.load(path) == [json.loads(json.dumps(one)) for one in (first, second)]
    assert first["results"][0]["subject"]["samples"] == (1.0, 1.0, 1.0)


def test_plot_has_a_chart_for_each_row_and_a_point_for_each_run() -> None:
    reports = [
        report(single("a < b", Side("s", "s", (seconds,))), single("other", FAST)).to_json()
        for seconds in (1.0, 2.0, 4.0)
    ]
    root = ElementTree.fromstring(history.plot(reports))
    name = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{name}polyline")) == 2
    heights = [float(dot.attrib["cy"]) for dot in root.iter(f"{name}circle")][:3]
    assert heights == sorted(heights, reverse=True)
    assert "a < b" in [text.text for text in root.iter(f"{name}text")]
