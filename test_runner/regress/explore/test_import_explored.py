"""The explorer's part of the main job: imports that are cut wherever they can be."""

from __future__ import annotations

from collections.abc import Callable

from reattach.fixtures.explore.plugin import DidNotSurvive, Exploration, Replay
from reattach.fixtures.skips import xfail_on_real
from reattach.fixtures.subjects.neon.plugin import MakeImport
from reattach.fixtures.subjects.port import Subject

_FOUND = "a timeline whose controller died before it had a row is answered with 429 and 404 again and again"


@xfail_on_real(
    "pageserver",
    "storage_controller",
    reason=f"{_FOUND}, which takes all the time: test_import_resume_created_by_a_controller_that_died has it",
    raises=DidNotSurvive,
    run=False,
)
def test_import_resume_explored(explore: Callable[[Subject], Exploration], neon_import: MakeImport) -> None:
    """I10: whatever crash point is tried in so many seconds, the import comes to its end, whole."""
    explore(neon_import()).assert_survives_every_crash(budget=12)


@xfail_on_real("pageserver", "storage_controller", reason=_FOUND, raises=DidNotSurvive)
def test_import_resume_created_by_a_controller_that_died(replay: Replay, neon_import: MakeImport) -> None:
    """I10: the client creates the timeline again, and the import comes to its end."""
    replay(
        neon_import(),
        "at storage_controller > pageserver_1: create timeline 0000 #1, after: kill storage_controller",
    )
