"""Deleting timelines: at any moment, and through any crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.processes import wait_for
from reattach.api.ids import TenantShardId, TimelineId
from test_runner.regress.pageserver.one_pageserver import PageserverProcess
from test_runner.regress.pageserver.remote_files import RemoteTimeline
from test_runner.unit.import_pgdata.data_directory import DataDirectory


def delete_until_gone(pageserver: PageserverProcess, tenant: TenantShardId, timeline: TimelineId) -> None:
    """What callers do: DELETE until 404."""

    def is_gone() -> bool:
        response = pageserver.request("DELETE", f"/v1/tenant/{tenant}/timeline/{timeline}")
        assert response.status_code in (202, 409, 404), response.text
        return response.status_code == 404

    wait_for(is_gone, what="404", timeout=20, alive=pageserver.running)


def assert_gone(
    pageserver: PageserverProcess, tenant: TenantShardId, timeline: TimelineId, tmp_path: Path
) -> None:
    """I9: nothing is left, here or in remote storage."""
    assert RemoteTimeline(tmp_path / "remote", tenant, timeline).objects() == set()
    assert list(pageserver.timeline_dir(tenant, timeline).parent.iterdir()) == []


def test_cycle(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
    tmp_path: Path,
) -> None:
    """I9: 202, 409 while it runs, 404 when it is done."""
    path = f"/v1/tenant/{tenant}/timeline/{timeline}"
    pageserver.attach(tenant)
    pageserver.call("DELETE", path, expect=404)
    pageserver.import_and_activate(tenant, timeline, bucket.root)
    pageserver.failpoint("in_progress_delete", "pause")
    pageserver.call("DELETE", path, expect=202)
    assert pageserver.call("DELETE", path, expect=409)["msg"].startswith("Conflict: ")
    assert pageserver.call("GET", path)["state"] == "Stopping"
    pageserver.create_import(tenant, timeline, bucket.root, expect=409, insert_row=False)
    pageserver.failpoint("in_progress_delete", "off")
    delete_until_gone(pageserver, tenant, timeline)
    assert_gone(pageserver, tenant, timeline, tmp_path)
    pageserver.call("GET", path, expect=404)
    pageserver.detach(tenant)
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
def test_while_importing(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
    tmp_path: Path,
    failpoint: str,
) -> None:
    """I9: an import that is being deleted stops where it is, and writes nothing any more."""
    pageserver.attach(tenant)
    pageserver.failpoint(failpoint, "pause")
    pageserver.create_import(tenant, timeline, bucket.root)
    pageserver.wait_log(f"at failpoint {failpoint}")
    delete_until_gone(pageserver, tenant, timeline)
    assert pageserver.log_lines("import task was cancelled")
    pageserver.failpoint(failpoint, "off")
    posts = pageserver.controller.called("timeline_import_status")
    assert not any(call.body["status"] == "Done" or "Error" in call.body["status"] for call in posts)
    assert_gone(pageserver, tenant, timeline, tmp_path)
    pageserver.kill()
    pageserver.start()
    assert pageserver.call("GET", f"/v1/tenant/{tenant}/timeline") == []
    assert_gone(pageserver, tenant, timeline, tmp_path)


def test_waiting_for_its_row(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
    tmp_path: Path,
) -> None:
    """An import whose row never comes asks again and again, until it is deleted."""
    pageserver.attach(tenant)
    pageserver.create_import(tenant, timeline, bucket.root, insert_row=False)
    pageserver.wait_log("storage controller upcall failed, will retry", 3)
    delete_until_gone(pageserver, tenant, timeline)
    assert_gone(pageserver, tenant, timeline, tmp_path)


INTERRUPTIONS = [
    "timeline-delete-before-rm",
    "timeline-delete-after-rm",
    "timeline-delete-before-index-delete",
    "timeline-delete-after-index-delete",
]


@pytest.mark.parametrize("failpoint", INTERRUPTIONS)
def test_interrupted_and_asked_again(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
    tmp_path: Path,
    failpoint: str,
) -> None:
    """I9: the next DELETE completes what an error cut off."""
    pageserver.attach(tenant)
    pageserver.import_and_activate(tenant, timeline, bucket.root)
    pageserver.failpoint(failpoint, "return")
    pageserver.call("DELETE", f"/v1/tenant/{tenant}/timeline/{timeline}", expect=202)
    pageserver.wait_log("timeline deletion failed")
    pageserver.failpoint(failpoint, "off")
    delete_until_gone(pageserver, tenant, timeline)
    assert_gone(pageserver, tenant, timeline, tmp_path)


@pytest.mark.parametrize("failpoint", INTERRUPTIONS)
def test_interrupted_and_restarted(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
    tmp_path: Path,
    failpoint: str,
) -> None:
    """I9, I10: the index that says that the timeline is deleted goes last, so a restart knows what to do."""
    generation = pageserver.attach(tenant)
    pageserver.import_and_activate(tenant, timeline, bucket.root)
    pageserver.failpoint(failpoint, "return")
    pageserver.call("DELETE", f"/v1/tenant/{tenant}/timeline/{timeline}", expect=202)
    pageserver.wait_log("timeline deletion failed")
    remote = RemoteTimeline(tmp_path / "remote", tenant, timeline)
    if failpoint != "timeline-delete-after-index-delete":
        assert "deleted_at" in remote.index(generation)
    pageserver.kill()
    pageserver.start()
    wait_for(lambda: remote.objects() == set(), what="the deletion", timeout=20, alive=pageserver.running)
    delete_until_gone(pageserver, tenant, timeline)
    assert_gone(pageserver, tenant, timeline, tmp_path)


@pytest.mark.parametrize(
    "failpoint", ["timeline-delete-before-index-deleted-at", "timeline-delete-before-schedule"]
)
def test_refused_and_asked_again(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
    tmp_path: Path,
    failpoint: str,
) -> None:
    pageserver.attach(tenant)
    pageserver.import_and_activate(tenant, timeline, bucket.root)
    pageserver.failpoint(failpoint, "1*return")
    pageserver.call("DELETE", f"/v1/tenant/{tenant}/timeline/{timeline}", expect=500)
    delete_until_gone(pageserver, tenant, timeline)
    assert_gone(pageserver, tenant, timeline, tmp_path)


def test_shutdown_while_deletion_is_paused(
    pageserver: PageserverProcess, bucket: DataDirectory, tenant: TenantShardId, timeline: TimelineId
) -> None:
    """A pause holds up one deletion, not the process."""
    pageserver.attach(tenant)
    pageserver.import_and_activate(tenant, timeline, bucket.root)
    pageserver.failpoint("in_progress_delete", "pause")
    pageserver.call("DELETE", f"/v1/tenant/{tenant}/timeline/{timeline}", expect=202)
    pageserver.wait_log("at failpoint in_progress_delete")
    assert pageserver.stop() == 0
