"""How imports end, whatever happens meanwhile."""

from __future__ import annotations

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

from reattach.fixtures.control_plane import Upcall
from test_runner.regress.storage_controller.cloud import Cloud
from test_runner.regress.storage_controller.conftest import MakeCloud
from test_runner.regress.storage_controller.fake_pageserver import Fault
from test_runner.regress.storage_controller.steps import (
    describe_import,
    is_importing,
    migrate,
    progress,
)


def test_failed_shards_are_told_by_name(cloud: Cloud) -> None:
    """I7: the error names every failed shard; the timeline is not activated."""
    tenant = cloud.create_tenant(shards=2)
    timeline = cloud.create_import(tenant)
    good, bad = cloud.shards(tenant)
    cloud.report(good, timeline, "Done")
    cloud.report(bad, timeline, {"Error": 'file "x" is gone'})
    error = cloud.wait_told(timeline)
    assert error is not None
    assert json.loads(error) == {"0102": 'file "x" is gone'}
    assert cloud.node(1).calls("activate_post_import") == []
    assert cloud.told(timeline) == [error]


def test_a_failed_import_stays_failed_for_who_asks_again(cloud: Cloud) -> None:
    """I11: after its end and a re-attach, the pageserver hears of the error instead of asking for ever."""
    tenant = cloud.create_tenant(shards=2)
    done, failed = cloud.shards(tenant)
    timeline = cloud.create_import(tenant)
    cloud.report(done, timeline, "Done")
    cloud.report(failed, timeline, {"Error": "gone"})
    cloud.wait_told(timeline)
    cloud.set_policy(tenant, "Detached")
    cloud.wait_idle()
    cloud.set_policy(tenant, {"Attached": 0})
    cloud.wait_idle()
    assert cloud.fetch(failed, timeline) == (200, {"Error": "gone"})
    assert cloud.report(failed, timeline, {"Error": "gone"})[0] == 200
    assert cloud.report(failed, timeline, "Done")[0] == 500
    assert cloud.fetch(done, timeline) == (200, "Done")
    assert cloud.report(done, timeline, {"Error": "other"})[0] == 500


def test_control_plane_is_told_until_it_takes_it(cloud: Cloud) -> None:
    """I7: whatever the control plane answers first, it hears of the import; then the row goes."""
    cloud.control_plane.answer([500, 404])
    tenant = cloud.create_tenant()
    timeline = cloud.create_import(tenant)
    cloud.report(tenant, timeline, "Done")
    assert cloud.wait_told(timeline) is None
    calls = [c.status for c in cloud.control_plane.import_complete_calls if str(c.timeline_id) == timeline]
    assert calls == [500, 404, 200]


def test_every_import_of_a_tenant_for_itself(cloud: Cloud) -> None:
    """Trap 24: one import's end does not end another's."""
    tenant = cloud.create_tenant()
    first, second = cloud.create_import(tenant), cloud.create_import(tenant)
    cloud.report(tenant, first, "Done")
    cloud.wait_told(first)
    assert is_importing(cloud, tenant)
    cloud.report(tenant, second, "Done")
    cloud.wait_told(second)
    assert not is_importing(cloud, tenant)


def test_the_failpoint_before_the_notification_is_before_the_activation(cloud: Cloud) -> None:
    """Trap 20: tests that wait at the failpoint find the timeline as the real controller leaves it."""
    tenant = cloud.create_tenant()
    timeline = cloud.create_import(tenant)
    cloud.failpoint("timeline-import-pre-cplane-notification", "pause")
    cloud.report(tenant, timeline, "Done")
    cloud.wait(lambda: "at failpoint timeline-import-pre-cplane-notification" in cloud.log, "the failpoint")
    assert cloud.node(1).calls("activate_post_import") == []
    assert cloud.statuses(tenant, timeline) == {"0000": "Done"}
    cloud.failpoint("timeline-import-pre-cplane-notification", "off")
    assert cloud.wait_told(timeline) is None


def test_reports_during_start_do_not_finish_twice(cloud: Cloud) -> None:
    """Trap 18: upcalls while a starting controller takes up the import start no second finaliser."""
    tenant = cloud.create_tenant()
    timeline = cloud.create_import(tenant)
    cloud.failpoint("timeline-import-pre-cplane-notification", "pause")
    cloud.report(tenant, timeline, "Done")
    cloud.kill_controller()
    stop = threading.Event()

    def insist() -> None:
        body = {
            "tenant_shard_id": tenant,
            "timeline_id": timeline,
            "status": "Done",
            "generation": 1,
        }
        while not stop.is_set():
            try:
                cloud.api.call("POST", "/upcall/v1/timeline_import_status", body)
            except Exception:  # noqa: BLE001
                continue

    with cloud.control_plane.hold(), ThreadPoolExecutor(4) as pool:
        insisting = [pool.submit(insist) for _ in range(4)]
        cloud.start_controller()
        cloud.control_plane.wait_arrived(Upcall.IMPORT_COMPLETE)
        stop.set()
        for one in insisting:
            one.result()
    cloud.wait_told(timeline)
    assert cloud.control_plane.arrived(Upcall.IMPORT_COMPLETE) == 1


def test_an_equal_report_starts_a_missing_finaliser(cloud: Cloud) -> None:
    """Trap 19: a complete import that nobody is finishing is finished when a shard says its end again."""
    tenant = cloud.create_tenant()
    timeline = cloud.create_import(tenant)
    cloud.execute("""UPDATE timeline_imports SET shard_statuses = '{"0000": "Done"}'""")
    assert cloud.report(tenant, timeline, "Done")[0] == 200
    assert cloud.wait_told(timeline) is None


def test_active_shards_are_not_activated_again(cloud: Cloud) -> None:
    """Trap 21: only the shards that failed are asked again."""
    tenant = cloud.create_tenant(shards=2)
    first, second = cloud.shards(tenant)
    timeline = cloud.create_import(tenant)
    cloud.node(1).inject(Fault(f"PUT .*{second}.*activate_post_import", 503, times=4))
    for shard in (first, second):
        cloud.report(shard, timeline, "Done")
    cloud.wait_told(timeline)
    assert len(cloud.node(1).calls(f"PUT .*{first}.*activate_post_import")) == 1
    assert len(cloud.node(1).calls(f"PUT .*{second}.*activate_post_import")) == 5


def test_activation_in_a_lost_generation_does_not_count(make_cloud: MakeCloud) -> None:
    """I7: what a location activates after it lost its generation is not there for its successor."""
    cloud = make_cloud(nodes=2)
    tenant = cloud.create_tenant()
    origin = cloud.issued(tenant)[1]
    assert origin is not None
    timeline = cloud.create_import(tenant)
    gate = cloud.node(origin).hold("activate_post_import")
    cloud.report(tenant, timeline, "Done")
    cloud.wait(lambda: cloud.node(origin).calls("activate_post_import"), "activation to be asked for")
    # The origin dies for everybody but the one call that it still answers.
    stale = cloud.node(origin).attached[tenant]
    migrate(cloud, tenant, 3 - origin)
    cloud.node(origin).attached[tenant] = stale
    gate.set()
    assert cloud.wait_told(timeline) is None
    assert cloud.remote.timelines(tenant)[timeline].imported
    assert cloud.node(3 - origin).calls("activate_post_import")


def test_without_a_control_plane_the_import_waits_and_says_so(make_cloud: MakeCloud) -> None:
    """Trap 29: nobody to tell is no reason to die; the import ends when there is somebody."""
    cloud = make_cloud(control_plane=False)
    tenant = cloud.create_tenant()
    timeline = cloud.create_import(tenant)
    cloud.report(tenant, timeline, "Done")

    def waits() -> bool:
        return "--control-plane-url" in str(describe_import(cloud, tenant, timeline)["waiting_for"])

    cloud.wait(waits, "the import to say what it waits for")
    assert cloud.controller is not None and cloud.controller.is_running()
    assert "no --control-plane-url is configured" in cloud.log
    cloud.kill_controller()
    cloud.tells_control_plane = True
    cloud.start_controller()
    assert cloud.wait_told(timeline) is None


def test_shards_that_nobody_knew_end_the_import_with_an_error(cloud: Cloud) -> None:
    """I11: an import whose record lacks a shard can never be whole, and says so."""
    tenant = cloud.create_tenant(shards=2)
    timeline = cloud.create_import(tenant)
    cloud.execute("UPDATE timeline_imports SET shard_statuses = shard_statuses - '0102'")
    cloud.report(cloud.shards(tenant)[0], timeline, "Done")
    assert cloud.wait_told(timeline) == "Mismatched shard detected during import finalize: 0102"


def test_a_lost_node_is_left_without_help(make_cloud: MakeCloud) -> None:
    """I10: a pageserver dies in the middle; the other one finishes the import from where it was."""
    cloud = make_cloud(nodes=2, runs_imports=True)
    for node in cloud.nodes:
        node.jobs = 100
    tenant = cloud.create_tenant(shards=2)
    timeline = cloud.create_import(tenant)
    victim = cloud.issued(cloud.shards(tenant)[0])[1]
    assert victim is not None
    cloud.wait(lambda: "completed" in str(cloud.statuses(tenant, timeline)), "progress")
    cloud.node(victim).kill()
    assert cloud.wait_told(timeline) is None
    assert {cloud.issued(shard)[1] for shard in cloud.shards(tenant)} == {3 - victim}


def test_the_new_generation_is_heard_at_once_during_a_migration(make_cloud: MakeCloud) -> None:
    """Trap 17: from the moment a generation is issued it is the one that counts, and the old one does not."""
    cloud = make_cloud(nodes=2)
    tenant = cloud.create_tenant()
    origin = cloud.issued(tenant)[1]
    assert origin is not None
    timeline = cloud.create_import(tenant)
    cloud.failpoint("reconciler-live-migrate-post-generation-inc", "pause")
    with ThreadPoolExecutor(1) as pool:
        migration = pool.submit(migrate, cloud, tenant, 3 - origin)
        cloud.wait(lambda: cloud.issued(tenant)[0] == 2, "the new generation")
        assert cloud.report(tenant, timeline, progress(1), 1)[0] == 412
        assert cloud.report(tenant, timeline, progress(1), 2)[0] == 200
        validated = cloud.api.ok(
            "POST", "/upcall/v1/validate", {"tenants": [{"id": tenant, "gen": 1}, {"id": tenant, "gen": 2}]}
        )
        assert [entry["valid"] for entry in validated["tenants"]] == [False, True]
        cloud.failpoint("reconciler-live-migrate-post-generation-inc", "off")
        migration.result()
    assert cloud.fetch(tenant, timeline) == (200, progress(1))


def test_rows_of_another_controller_are_finished(cloud: Cloud) -> None:
    """A database that the real controller wrote, which knows nothing of our columns."""
    tenant = cloud.create_tenant()
    timeline = uuid.uuid4().hex
    cloud.api.ok("POST", f"/v1/tenant/{tenant}/timeline", cloud.import_body(timeline))
    cloud.execute("UPDATE timeline_imports SET request = NULL, created = false, shard_history = '{}'")
    cloud.restart_controller()
    assert describe_import(cloud, tenant, timeline)["phase"] == "importing"
    cloud.report(tenant, timeline, "Done")
    assert cloud.wait_told(timeline) is None
