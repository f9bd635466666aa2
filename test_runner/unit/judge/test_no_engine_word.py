"""Nobody who says how an import went asks the engine's log."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]

FOR_PEOPLE = {"fixtures/imports/failure.py"}
"""Shows lines of a log to whoever reads a failure."""

BY_LOG = {"log_contains", "assert_log_contains", "wait_log_contains", "log_lines", "assert_no_log"}


def those_who_say() -> Iterator[Path]:
    """Tests of imports, and whatever judges them."""
    yield from sorted(ROOT.glob("test_runner/regress/**/test_import*.py"))
    for room in ("imports", "judge", "explore", "subjects"):
        yield from sorted((ROOT / "fixtures" / room).rglob("*.py"))
    yield ROOT / "fixtures/compare.py"


def calls_by_log(source: str) -> list[str]:
    """Calls that look into a log, each with its line."""
    found = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute))
    return [f"{node.attr} in line {node.lineno}" for node in found if node.attr in BY_LOG]


def test_what_happened_is_not_read_from_a_log() -> None:
    """What a process writes about itself is no evidence; a history is."""
    files = {str(file.relative_to(ROOT)): file for file in those_who_say()}
    assert len(files) > 100
    found = {name: calls_by_log(file.read_text()) for name, file in files.items() if name not in FOR_PEOPLE}
    assert {name: calls for name, calls in found.items() if calls} == {}


def test_who_asks_a_log_is_found() -> None:
    assert calls_by_log("env.pageserver.wait_log_contains('done')") == ["wait_log_contains in line 1"]
