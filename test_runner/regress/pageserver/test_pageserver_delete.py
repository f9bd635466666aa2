"""Deleting timelines: at any moment, and through any crash."""

from __future__ import annotations

import pytest

from reattach.fixtures.processes import wait_for
from test_runner.regress.pageserver.subject import Subject


def test_cycle(subject: Subject) -> None:
    """I9: 202, 409 while it runs, 404 when it is done."""
    pageserver = subject.pageserver
    path = subject.path
    subject.attach()
    pageserver.call("DELETE", path, expect=404)
    subject.import_and_activate()
    pageserver.failpoint("in_progress_delete", "pause")
    pageserver.call("DELETE", path, expect=202)
    assert pageserver.call("DELETE", path, expect=409)["msg"].startswith("Conflict: ")
    assert pageserver.call("GET", path)["state"] == "Stopping"
    subject.create_import(expect=409, insert_row=False)
    pageserver.failpoint("in_progress_delete", "off")
    subject.delete_until_gone()
    subject.assert_gone()
    pageserver.call("GET", path, expect=404)
    subject.detach()
    assert pageserver.call("DELETE", path, expect=412)["msg"].endswith("Requested tenant is missing")


@pytest.mark.parametrize(
    "failpoint",
    [
        "import-timeline-pre-execute-pausable",
        "import-job-5-taken-pausable",
        "import-timeline-pre-success-notify-pausable",
        "before-upload-layer-pausable",
    ],
)
def test_while_importing(subject: Subject, failpoint: str) -> None:
    """I9: an import that is being deleted stops where it is, and writes nothing any more."""
    pageserver = subject.pageserver
    subject.attach()
    subject.import_until(failpoint)
    subject.delete_until_gone()
    # Whichever is noticed first.
    assert pageserver.log_lines(
        "import task (was cancelled|ends without a result: timeline is shutting down)"
    )
    pageserver.failpoint(failpoint, "off")
    posts = pageserver.controller.called("timeline_import_status")
    assert not any(call.body["status"] == "Done" or "Error" in call.body["status"] for call in posts)
    subject.assert_gone()
    pageserver.kill()
    pageserver.start()
    assert pageserver.call("GET", f"/v1/tenant/{subject.tenant}/timeline") == []
    subject.assert_gone()


def test_waiting_for_its_row(subject: Subject) -> None:
    """An import whose row never comes asks again and again, until it is deleted."""
    subject.attach()
    subject.create_import(insert_row=False)
    subject.pageserver.wait_log("storage controller upcall failed, will retry", 3)
    subject.delete_until_gone()
    subject.assert_gone()


INTERRUPTIONS = [
    "timeline-delete-before-rm",
    "timeline-delete-after-rm",
    "timeline-delete-before-index-delete",
    "timeline-delete-after-index-delete",
]


@pytest.mark.parametrize("failpoint", INTERRUPTIONS)
def test_interrupted_and_asked_again(subject: Subject, failpoint: str) -> None:
    """I9: the next DELETE completes what an error cut off."""
    pageserver = subject.pageserver
    subject.attach()
    subject.import_and_activate()
    pageserver.failpoint(failpoint, "return")
    pageserver.call("DELETE", subject.path, expect=202)
    pageserver.wait_log("timeline deletion failed")
    pageserver.failpoint(failpoint, "off")
    subject.delete_until_gone()
    subject.assert_gone()


@pytest.mark.parametrize("failpoint", INTERRUPTIONS)
def test_interrupted_and_restarted(subject: Subject, failpoint: str) -> None:
    """I9, I10: the index that says that the timeline is deleted goes last, so a restart knows what to do."""
    pageserver = subject.pageserver
    generation = subject.attach()
    subject.import_and_activate()
    pageserver.failpoint(failpoint, "return")
    pageserver.call("DELETE", subject.path, expect=202)
    pageserver.wait_log("timeline deletion failed")
    remote = subject.remote
    if failpoint != "timeline-delete-after-index-delete":
        assert "deleted_at" in remote.index(generation)
    pageserver.kill()
    pageserver.start()
    wait_for(lambda: remote.objects() == set(), what="the deletion", timeout=20, alive=pageserver.running)
    subject.delete_until_gone()
    subject.assert_gone()


@pytest.mark.parametrize(
    "failpoint", ["timeline-delete-before-index-deleted-at", "timeline-delete-before-schedule"]
)
def test_refused_and_asked_again(subject: Subject, failpoint: str) -> None:
    subject.attach()
    subject.import_and_activate()
    subject.pageserver.failpoint(failpoint, "1*return")
    subject.pageserver.call("DELETE", subject.path, expect=500)
    subject.delete_until_gone()
    subject.assert_gone()


def test_shutdown_while_deletion_is_paused(subject: Subject) -> None:
    """A pause holds up one deletion, not the process."""
    pageserver = subject.pageserver
    subject.attach()
    subject.import_and_activate()
    pageserver.failpoint("in_progress_delete", "pause")
    pageserver.call("DELETE", subject.path, expect=202)
    pageserver.wait_log("at failpoint in_progress_delete")
    assert pageserver.stop() == 0
