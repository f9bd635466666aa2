"""docs/invariants.md and docs/deviations.md name tests: they exist, and every invariant has one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from test_runner.breakages import BREAKAGES, Breakage

ROOT = Path(__file__).resolve().parents[2]
INVARIANTS = [f"I{number}" for number in range(1, 14)]

_TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")


def sections() -> dict[str, str]:
    """The text below each heading `## I1 purity`, by `I1`."""
    text = (ROOT / "docs" / "invariants.md").read_text()
    parts = re.split(r"^## (I\d+) .*$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("invariant", INVARIANTS)
def test_each_invariant_has_tests(invariant: str) -> None:
    assert _TEST.findall(sections()[invariant]), f"docs/invariants.md names no test of {invariant}"


@pytest.mark.parametrize("page", ["invariants", "deviations"])
def test_named_tests_exist(page: str) -> None:
    named = _TEST.findall((ROOT / "docs" / f"{page}.md").read_text())
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not re.search(rf"^\s*(?:async )?def {name}\(", read(path), re.MULTILINE)
    ]
    assert named
    assert not missing, f"docs/{page}.md names tests that are not there: {missing}"


def test_breakages_are_of_known_invariants() -> None:
    """What `./scripts/break --list` shows beside each breakage can be looked up."""
    assert {breakage.invariant for breakage in BREAKAGES} <= set(INVARIANTS)


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.name)
def test_breakages_fit_the_engine(breakage: Breakage) -> None:
    """A breakage that no longer applies proves nothing."""
    for edit in breakage.edits:
        assert (ROOT / edit.file).read_text().count(edit.old) == 1, edit


def read(path: str) -> str:
    file = ROOT / "test_runner" / path
    return file.read_text() if file.exists() else ""
