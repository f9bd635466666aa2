"""A world's history is looked at once for all of its imports."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from reattach.api.history import History
from reattach.fixtures.imports.evidence import evidence_of
from reattach.fixtures.judge.neon.case import Case, look_at
from reattach.fixtures.witness.world import World
from test_runner.unit.judge.story import uninterrupted


class FakeWorld:
    def __init__(self, path: Path) -> None:
        self.history_path = path

    def history(self) -> History:
        return uninterrupted().history()


def test_imports_of_a_world_share_what_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a test of hundreds of imports would look at a long history hundreds of times, in the end."""
    path = tmp_path / "history.jsonl"
    path.write_text("as long as it is")
    looks: list[History] = []

    def counted(history: History) -> Case:
        looks.append(history)
        return look_at(history)

    monkeypatch.setattr("reattach.fixtures.imports.evidence.look_at", counted)
    world, other = (cast("World", FakeWorld(path)) for _ in range(2))
    for _ in range(3):
        evidence_of(world).case()
    assert len(looks) == 1
    path.write_text("it has grown since then")
    evidence_of(world).case()
    assert len(looks) == 2
    evidence_of(other).case()
    assert len(looks) == 3
