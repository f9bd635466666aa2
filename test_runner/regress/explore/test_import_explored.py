"""The explorer's part of the main job: imports that are cut wherever they can be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reattach.fixtures.explore.plugin import DidNotSurvive, Exploration, Replay, workers
from reattach.fixtures.skips import xfail_on_real
from reattach.fixtures.subjects.neon.plugin import MakeImport
from reattach.fixtures.subjects.port import Subject

SECONDS = 10
"""Of all workers together."""

_FOUND = "a timeline whose controller died before it had a row is answered with 429 and 404 again and again"


@xfail_on_real(
    "storage_controller",
    reason="what it finds takes all the time: the tests below have each",
    raises=DidNotSurvive,
    run=False,
)
def test_import_resume_explored(
    explore: Callable[[Subject], Exploration], neon_import: MakeImport, pytestconfig: pytest.Config
) -> None:
    """I10: whatever crash point is tried in so many seconds, the import comes to its end, whole."""
    explore(neon_import()).assert_survives_every_crash(budget=SECONDS / workers(pytestconfig))


@xfail_on_real("pageserver", "storage_controller", reason=_FOUND, raises=DidNotSurvive)
def test_import_resume_created_by_a_controller_that_died(replay: Replay, neon_import: MakeImport) -> None:
    """I10: the client creates the timeline again, and the import comes to its end."""
    replay(
        neon_import(),
        "at storage_controller > pageserver_1: create timeline 0000 #1, after: kill storage_controller",
    )


@xfail_on_real(
    "storage_controller",
    reason="a creation that is repeated after the end puts a new row there, for an import that nobody runs",
    raises=DidNotSurvive,
)
def test_import_resume_created_again_after_its_end(replay: Replay, neon_import: MakeImport) -> None:
    """I10: whoever was not answered asks again, and that leaves no import that never ends."""
    replay(
        neon_import(),
        "at storage_controller > postgres: commit insert timeline_imports #1, after: kill storage_controller",
    )


@xfail_on_real(
    "storage_controller",
    reason="progress of an old generation is recorded after a new one has asked: data is lost, 5 of 6 times",
    raises=DidNotSurvive,
    always=False,
)
def test_import_resume_late_progress_of_an_old_generation(replay: Replay, neon_import: MakeImport) -> None:
    """I4, I8: what is recorded is what the index has that the next attachment finds."""
    replay(
        neon_import(),
        "at storage_controller > postgres: commit update timeline_imports #1, before: "
        "hold until pageserver_1 > storage_controller: get status 0000",
        "at pageserver_1 > s3: put layer 0000 +1, before: detach and attach",
        "at pageserver_1 > s3: put index 0000 +1, after: kill pageserver_1",
    )


@xfail_on_real(
    "storage_controller",
    reason="a tenant that is attached again while its pageserver starts is lost at that one's next start",
    raises=DidNotSurvive,
)
def test_import_resume_attached_again_while_its_pageserver_starts(
    replay: Replay, neon_import: MakeImport
) -> None:
    """I10: whoever is attached by the controller's word is attached."""
    replay(
        neon_import(),
        "at pageserver_1 > s3: put layer 0000 #5, before: kill pageserver_1",
        "at pageserver_1 > storage_controller: re-attach +1, after: detach and attach",
        "at pageserver_1 > storage_controller: post status 0000 +1, before: kill pageserver_1",
    )


def test_import_resume_controller_killed_at_its_last_write(replay: Replay, neon_import: MakeImport) -> None:
    """I7: by then the control plane knows, and nobody has to tell it any more."""
    replay(
        neon_import(),
        "at storage_controller > postgres: commit *delete timeline_im* +1, after: kill storage_controller",
    )
