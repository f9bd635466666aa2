"""The page of an exploration says what its folder says, and each of its links leads there."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from reattach.fixtures.explore.explorer import Explorer
from reattach.fixtures.explore.page import blocks, page
from reattach.fixtures.explore.results import Results, Table, load_results
from test_runner.unit.explore.fake import FakeJob


class Parsed(HTMLParser):
    """squares: (class, text) of the table's cells, in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.hrefs: list[str] = []
        self.ids: set[str] = set()
        self.squares: list[tuple[str, str]] = []
        self._square = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        got = {name: value or "" for name, value in attrs}
        self.hrefs += [got["href"]] if "href" in got else []
        self.ids |= {got["id"]} if "id" in got else set()
        kinds = got.get("class", "").split()
        if tag == "td" and kinds[:1] == ["c"]:
            self._square = kinds[1]

    def handle_data(self, data: str) -> None:
        if self._square:
            self.squares.append((self._square, data))

    def handle_endtag(self, tag: str) -> None:
        self._square = "" if tag == "td" else self._square


def explored(folder: Path, bug: str = "", budget: float | None = None) -> Explorer:
    explorer = Explorer(FakeJob(bug=bug), folder, budget=budget)
    for _ in explorer.runs():
        pass
    return explorer


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    return explored(tmp_path_factory.mktemp("failing"), "checkpoint first")


def test_every_cell_is_there_as_it_is(failing: Explorer) -> None:
    coverage = failing.report.coverage
    parsed = Parsed((failing.store.folder / "coverage.html").read_text())
    expected = sorted(
        {
            "failed": ("failed", "F"),
            "hit": ("hit", str(coverage.hits[cell])),
            "unreachable": ("unreachable", "–"),
            "not tried": ("open", "?"),
        }[coverage.state(cell)]
        for cell in coverage.cells
    )
    assert sorted(parsed.squares) == expected
    assert {"failed", "hit"} <= {kind for kind, _ in expected}


def test_a_square_stands_in_its_column(failing: Explorer) -> None:
    cells = load_results(failing.store.folder).table.cells
    stages = sorted({cell.stage for cell in cells})
    seen = []
    for block in blocks(cells, stages):
        for line in block.lines:
            for number, cell in enumerate(line.cells):
                if cell is not None:
                    assert (block.effect, line.action) == (cell.effect, cell.action)
                    assert stages[number % len(stages)] == cell.stage
                    assert ("before", "after")[number // len(stages)] == cell.when
                    seen.append(cell)
    assert len(seen) == len(cells)


def test_every_link_leads_somewhere(failing: Explorer) -> None:
    folder = failing.store.folder
    parsed = Parsed((folder / "coverage.html").read_text())
    inner = {href[1:] for href in parsed.hrefs if href.startswith("#")}
    files = {href for href in parsed.hrefs if not href.startswith("#")}
    assert inner and inner <= parsed.ids
    assert all((folder / file).is_file() for file in files)
    assert {Path(file).name for file in files} >= {"picture.html", "plan.json", "history.jsonl"}
    linked = {cell.run for cell in load_results(folder).table.cells if cell.state == "hit"}
    assert {f"r{run}" for run in linked} <= inner


def test_failures_come_first_with_their_steps_and_their_test(failing: Explorer) -> None:
    text = (failing.store.folder / "coverage.html").read_text()
    for failure in failing.report.failures:
        test = (failure.folder / "regression.py").read_text()
        places = [text.index(failure.reduced.result.sentence()), text.index("def test_fake_survives(replay")]
        assert max(places) < text.index("<table")
        assert f"fails {failure.reduced.confirmed} of 3 times" in text
        assert f'href="failures/{failure.folder.name}/picture.html"' in text
        assert test.splitlines()[0] in text


def test_a_square_that_failed_leads_to_its_failure(failing: Explorer) -> None:
    results = load_results(failing.store.folder)
    named = {cell.failure for cell in results.table.cells if cell.state == "failed"}
    assert named and named <= {failure.name for failure in results.failures}


def test_without_links_it_may_lie_anywhere(failing: Explorer) -> None:
    parsed = Parsed(page(load_results(failing.store.folder), links=False))
    assert parsed.hrefs and all(href.startswith("#") for href in parsed.hrefs)


def test_what_was_not_tried_is_not_green(tmp_path: Path) -> None:
    """Nor is an exploration that hit nothing."""
    explored(tmp_path, budget=0)
    text = (tmp_path / "coverage.html").read_text()
    assert "no crash point was hit" in text and "32 of 32 cells were not tried" in text
    assert "no failure" not in text


def test_why_something_is_unreachable_is_told(failing: Explorer) -> None:
    results = load_results(failing.store.folder)
    cells = [
        msgspec.structs.replace(cell, state="unreachable", why="it <never> happened", hits=0)
        for cell in results.table.cells
    ]
    table = msgspec.structs.replace(results.table, cells=cells)
    text = page(msgspec.structs.replace(results, table=table))
    assert f"{len(cells)} cells: it &lt;never&gt; happened" in text
    assert Parsed(text).ids >= {"u1"}


def test_one_file_without_a_network(failing: Explorer) -> None:
    text = page(load_results(failing.store.folder))
    assert not re.search(r"https?:|url\(|src=|@import", text)


def test_rules_that_are_unknown_as_often_share_a_line() -> None:
    unknown = {"I1": 3, "never happened": 1, "I2": 3}
    table = Table(subject="x", settings={}, runs=4, interruptions=0, seconds=0, unknown=unknown, cells=[])
    text = page(Results(table=table, failures=[], runs=[]))
    assert "unknown in 3 runs: I1, I2<" in text and "unknown in 1 run: never happened<" in text


def test_an_empty_exploration_has_a_page() -> None:
    table = Table(subject="<b>", settings={}, runs=0, interruptions=0, seconds=0, unknown={}, cells=[])
    assert "&lt;b&gt;, explored" in page(Results(table=table, failures=[], runs=[]))
