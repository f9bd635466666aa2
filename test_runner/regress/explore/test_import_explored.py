"""The explorer's part of the main job: imports that are cut wherever they can be."""

from __future__ import annotations

from collections.abc import Callable

from reattach.fixtures.explore.plugin import Exploration
from reattach.fixtures.subjects.neon.plugin import MakeImport
from reattach.fixtures.subjects.port import Subject


def test_import_resume_explored(explore: Callable[[Subject], Exploration], neon_import: MakeImport) -> None:
    """I10: whatever crash point is tried in so many seconds, the import comes to its end, whole."""
    explore(neon_import()).assert_survives_every_crash(budget=12)
