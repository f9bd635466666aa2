"""What is left of deleted imports: nothing."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from reattach.fixtures.control_plane import Upcall
from reattach.fixtures.processes import WaitTimeout
from test_runner.regress.storage_controller.cloud import Cloud
from test_runner.regress.storage_controller.fake_pageserver import Fault
from test_runner.regress.storage_controller.steps import (
    is_importing,
    progress,
)


@pytest.mark.parametrize(
    "phase", ["new", "in progress", "finalising", "activating", "telling", "finished", "failed"]
)
def test_delete_in_any_phase(cloud: Cloud, phase: str) -> None:
    """I9, I7: nothing is left of a deleted import, and if nobody was told before, nobody is told after."""
    tenant = cloud.create_tenant(shards=2)
    timeline = cloud.create_import(tenant)
    told: list[str | None] = []
    if phase == "in progress":
        cloud.report(cloud.shards(tenant)[0], timeline, progress(3))
    elif phase == "finalising":
        cloud.failpoint("timeline-import-pre-cplane-notification", "pause")
    elif phase == "activating":
        cloud.node(1).inject(Fault("activate_post_import", 503, times=10**6))
    elif phase == "telling":
        cloud.control_plane.fail(10**6)
    if phase not in ("new", "in progress"):
        for shard in cloud.shards(tenant):
            cloud.report(shard, timeline, {"Error": "x"} if phase == "failed" else "Done")
    if phase in ("finished", "failed"):
        told = [cloud.wait_told(timeline)]
    elif phase == "activating":
        cloud.wait(lambda: cloud.node(1).calls("activate_post_import"), "an activation")
    elif phase == "telling":
        cloud.control_plane.wait_arrived(Upcall.IMPORT_COMPLETE)
    path = f"/v1/tenant/{tenant}/timeline/{timeline}"
    assert cloud.api.call("DELETE", path) == (200, None)
    cloud.control_plane.answer([])
    cloud.failpoint("timeline-import-pre-cplane-notification", "off")
    if phase in ("finalising", "activating", "telling"):
        with pytest.raises(WaitTimeout):
            # A finaliser that were still there would tell now, or after the pause between two attempts.
            cloud.wait(lambda: cloud.told(timeline), "what must not come", timeout=1.5)
    for shard in cloud.shards(tenant):
        assert cloud.remote.timelines(shard) == {}
        assert cloud.fetch(shard, timeline)[0] == 404
        assert cloud.report(shard, timeline, "Done")[0] == 404
    assert not is_importing(cloud, tenant)
    assert cloud.query("SELECT 1 FROM timeline_imports UNION ALL SELECT 1 FROM finished_imports") == []
    cloud.restart_controller()
    assert cloud.told(timeline) == told
    assert cloud.api.call("DELETE", path) == (200, None)


def test_delete_during_creation(cloud: Cloud) -> None:
    """I9: a creation that is on its way arrives before the deletion, never after it."""
    tenant = cloud.create_tenant(shards=2)
    timeline = uuid.uuid4().hex
    gate = cloud.node(1).hold(r"POST .*/timeline$")
    with ThreadPoolExecutor(2) as pool:
        creation = pool.submit(
            cloud.api.call, "POST", f"/v1/tenant/{tenant}/timeline", cloud.import_body(timeline)
        )
        cloud.wait(lambda: cloud.node(1).calls(r"POST .*/timeline$"), "the pageserver to be asked")
        deletion = pool.submit(cloud.api.call, "DELETE", f"/v1/tenant/{tenant}/timeline/{timeline}")
        cloud.wait(lambda: cloud.log.count("Handling request DELETE"), "the deletion to arrive")
        with pytest.raises(TimeoutError):
            deletion.result(timeout=0.1)
        gate.set()
        assert deletion.result() == (200, None)
        assert creation.result()[0] == 503
    for shard in cloud.shards(tenant):
        assert cloud.remote.timelines(shard) == {}
    assert cloud.statuses(tenant, timeline) is None


def test_delete_needs_an_attached_tenant(cloud: Cloud) -> None:
    """Nothing is forgotten of a timeline that cannot be deleted now."""
    tenant = cloud.create_tenant()
    timeline = cloud.create_import(tenant)
    cloud.set_policy(tenant, "Detached")
    cloud.wait_idle()
    assert cloud.api.call("DELETE", f"/v1/tenant/{tenant}/timeline/{timeline}")[0] == 409
    assert cloud.statuses(tenant, timeline) is not None


def test_delete_after_a_detached_restart(cloud: Cloud) -> None:
    """Traps 25, 26: the row is what says that there is an import, so it is found and deleted."""
    tenant = cloud.create_tenant()
    timeline = cloud.create_import(tenant)
    split = f"/control/v1/tenant/{tenant}/shard_split"
    cloud.set_policy(tenant, "Detached")
    cloud.wait_idle()
    cloud.restart_controller()
    cloud.set_policy(tenant, {"Attached": 0})
    cloud.wait_idle()
    assert is_importing(cloud, tenant)
    refusal = {"msg": "Conflict: Cannot shard split during timeline import"}
    assert cloud.api.call("PUT", split, {"new_shard_count": 2}) == (409, refusal)
    assert cloud.api.call("DELETE", f"/v1/tenant/{tenant}/timeline/{timeline}")[0] == 200
    assert not is_importing(cloud, tenant)
    assert cloud.api.call("PUT", split, {"new_shard_count": 2})[0] == 400


@pytest.mark.parametrize("way", ["delete", "drop"])
def test_a_gone_tenant_leaves_no_row(cloud: Cloud, way: str) -> None:
    """I9, I7, trap 27: not of imports either; and nobody is told of those."""
    tenant = cloud.create_tenant()
    running, complete, finished = (cloud.create_import(tenant) for _ in range(3))
    cloud.report(tenant, finished, "Done")
    cloud.wait_told(finished)
    cloud.failpoint("timeline-import-pre-cplane-notification", "pause")
    cloud.report(tenant, complete, "Done")
    if way == "delete":
        cloud.api.ok("DELETE", f"/v1/tenant/{tenant}")
    else:
        cloud.api.ok("POST", f"/debug/v1/tenant/{tenant}/drop")
    for table in ("tenant_shards", "timeline_imports", "finished_imports"):
        assert cloud.query(f"SELECT 1 FROM {table}") == []
    cloud.restart_controller()
    assert cloud.told(running) + cloud.told(complete) == []


def test_orphans_of_another_controller_are_removed(cloud: Cloud) -> None:
    """Trap 27: a complete row of a tenant that does not exist is not tried for ever."""
    tenant, timeline = uuid.uuid4().hex, uuid.uuid4().hex
    cloud.kill_controller()
    cloud.execute(
        """INSERT INTO timeline_imports (tenant_id, timeline_id, shard_statuses) VALUES (%s, %s, %s)""",
        tenant,
        timeline,
        '{"0000": "Done"}',
    )
    cloud.start_controller()
    assert cloud.statuses(tenant, timeline) is None
    assert f"Removed import {tenant}/{timeline} of a tenant that does not exist" in cloud.log
    assert cloud.told(timeline) == []
