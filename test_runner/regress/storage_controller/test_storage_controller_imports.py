"""The life of an import at the storage controller."""

from __future__ import annotations

import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from fixtures.control_plane import Upcall
from test_runner.regress.storage_controller.cloud import Cloud
from test_runner.regress.storage_controller.conftest import MakeCloud
from test_runner.regress.storage_controller.fake_pageserver import Fault
from test_runner.regress.storage_controller.http import Refused

NOTHING_YET = {"InProgress": None}


def progress(completed: int, jobs: int = 10, plan: int = 2**64 - 1, limit: int = 512) -> dict[str, Any]:
    v1 = {"jobs": jobs, "completed": completed, "import_plan_hash": plan, "job_soft_size_limit": limit}
    return {"InProgress": {"V1": v1}}


def test_import_is_told_once_and_forgotten(make_cloud: MakeCloud) -> None:
    """I7: every shard done, the timeline active on each, the control plane told without an error."""
    cloud = make_cloud(nodes=2, runs_imports=True)
    tenant = cloud.create_tenant(shards=4)
    timeline = cloud.create_import(tenant)
    assert cloud.wait_told(timeline) is None
    for shard in cloud.shards(tenant):
        assert cloud.remote.timelines(shard)[timeline].imported
    assert cloud.told(timeline) == [None]
    assert cloud.fetch(cloud.shards(tenant)[0], timeline)[0] == 404


def test_status_round_trip(cloud: Cloud) -> None:
    """What a shard reports is what it gets, the full range of the plan hash included."""
    tenant = cloud.create_tenant()
    timeline = cloud.create_import(tenant)
    assert cloud.fetch(tenant, timeline) == (200, NOTHING_YET)
    assert cloud.report(tenant, timeline, progress(4)) == (200, None)
    assert cloud.fetch(tenant, timeline) == (200, progress(4))
    assert cloud.statuses(tenant, timeline) == {"0000": progress(4)}


def test_progress_only_moves_forward(cloud: Cloud) -> None:
    """I3: neither fewer jobs than recorded nor another plan is ever recorded; restarts change nothing."""
    tenant = cloud.create_tenant()
    timeline = cloud.create_import(tenant)
    cloud.report(tenant, timeline, progress(8))
    assert cloud.report(tenant, timeline, progress(4))[0] == 200
    assert cloud.report(tenant, timeline, NOTHING_YET)[0] == 200
    for other in (progress(9, jobs=11), progress(9, plan=1), progress(9, limit=1)):
        assert cloud.report(tenant, timeline, other)[0] == 409
    assert cloud.report(tenant, timeline, progress(11))[0] == 400
    cloud.restart_controller()
    assert cloud.fetch(tenant, timeline) == (200, progress(8))


def test_the_end_never_changes(make_cloud: MakeCloud) -> None:
    """I6: nothing follows Done or Error, except the same again."""
    cloud = make_cloud(control_plane=False)
    tenant = cloud.create_tenant(shards=2)
    done, failed = cloud.shards(tenant)
    timeline = cloud.create_import(tenant)
    assert cloud.report(done, timeline, "Done")[0] == 200
    assert cloud.report(failed, timeline, {"Error": "lost"})[0] == 200
    for shard in (done, failed):
        for status in (progress(10), {"Error": "other"}, NOTHING_YET):
            assert cloud.report(shard, timeline, status) == (500, {"msg": "Update request is unexpected"})
    assert cloud.report(done, timeline, "Done")[0] == 200
    assert cloud.report(failed, timeline, {"Error": "lost"})[0] == 200
    assert cloud.statuses(tenant, timeline) == {"0002": "Done", "0102": {"Error": "lost"}}


@pytest.mark.parametrize("offset", [-1, 1])
def test_other_generations_change_nothing(cloud: Cloud, offset: int) -> None:
    """I4: an older or a future generation is refused, on POST with 412 and on GET with 400."""
    tenant = cloud.create_tenant()
    timeline = cloud.create_import(tenant)
    current = cloud.issued(tenant)[0]
    assert current is not None
    refused = cloud.report(tenant, timeline, "Done", current + offset)
    assert refused == (412, {"msg": "Precondition failed: Invalid generation"})
    assert cloud.fetch(tenant, timeline, current + offset) == (400, {"msg": '"Invalid generation"'})
    assert cloud.statuses(tenant, timeline) == {"0000": NOTHING_YET}


def test_unknown_things_have_their_own_answers(cloud: Cloud) -> None:
    tenant = cloud.create_tenant()
    stranger, timeline = uuid.uuid4().hex, uuid.uuid4().hex
    message = f"import for {tenant}/{timeline} not found"
    assert cloud.fetch(tenant, timeline) == (404, {"msg": f"NotFound: {message}"})
    assert cloud.report(tenant, timeline, "Done") == (404, {"msg": f"NotFound: I{message[1:]}"})
    assert cloud.report(stranger, timeline, "Done", 1) == (500, {"msg": f"{stranger} shard not found"})
    assert cloud.fetch(stranger, timeline, 1) == (500, {"msg": f"{stranger} shard not found"})


def test_check_and_write_are_one_transaction(cloud: Cloud) -> None:
    """I4, trap 16: a generation that is issued between the check and the write is noticed."""
    tenant = cloud.create_tenant()
    timeline = cloud.create_import(tenant)
    old = cloud.issued(tenant)[0]
    with ThreadPoolExecutor(1) as pool, psycopg.connect(cloud.database.url) as connection:
        connection.execute("UPDATE tenant_shards SET generation = generation + 1")
        report = pool.submit(cloud.report, tenant, timeline, "Done", old)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        cloud.wait(lambda: cloud.query(waiting)[0][0], "the report to wait for the new generation")
        connection.commit()
        assert report.result()[0] == 412
    assert cloud.statuses(tenant, timeline) == {"0000": NOTHING_YET}


def test_reports_at_the_same_moment(cloud: Cloud) -> None:
    """I3, I4: of many reports at once, right and stale, the furthest right one is what is recorded."""
    tenant = cloud.create_tenant(shards=4)
    timeline = cloud.create_import(tenant)
    with ThreadPoolExecutor(16) as pool:
        answers = [
            (pool.submit(cloud.report, shard, timeline, progress(completed), generation), generation)
            for completed in range(1, 9)
            for shard in cloud.shards(tenant)
            for generation in (0, 1)
        ]
        for answer, generation in answers:
            assert answer.result()[0] == (200 if generation == 1 else 412)
    assert cloud.statuses(tenant, timeline) == {f"0{n}04": progress(8) for n in range(4)}


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
    tenant = cloud.create_tenant()
    timeline = cloud.create_import(tenant)
    cloud.report(tenant, timeline, {"Error": "gone"})
    cloud.wait_told(timeline)
    cloud.set_policy(tenant, "Detached")
    cloud.wait_idle()
    cloud.set_policy(tenant, {"Attached": 0})
    cloud.wait_idle()
    assert cloud.fetch(tenant, timeline) == (200, {"Error": "gone"})
    assert cloud.report(tenant, timeline, {"Error": "gone"})[0] == 200
    assert cloud.report(tenant, timeline, "Done")[0] == 500


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


def is_importing(cloud: Cloud, tenant: str) -> bool:
    shards = cloud.api.ok("GET", f"/control/v1/tenant/{tenant}")["shards"]
    dumped = [s for s in cloud.api.ok("GET", "/debug/v1/tenant") if s["tenant_shard_id"].startswith(tenant)]
    flags = {s["is_importing"] for s in shards} | {s["importing"] == "Importing" for s in dumped}
    assert len(flags) == 1
    return bool(flags.pop())


# Creation


def test_status_is_there_before_the_timeline(cloud: Cloud) -> None:
    """Trap 13: no pageserver ever asks for an import that is not recorded."""
    tenant = cloud.create_tenant()
    timeline = uuid.uuid4().hex
    gate = cloud.node(1).hold(r"POST .*/timeline$")
    with ThreadPoolExecutor(1) as pool:
        creation = pool.submit(cloud.create_import, tenant, timeline)
        cloud.wait(lambda: cloud.node(1).calls(r"POST .*/timeline$"), "the pageserver to be asked")
        assert cloud.fetch(tenant, timeline) == (200, NOTHING_YET)
        gate.set()
        creation.result()


def test_create_is_idempotent(cloud: Cloud) -> None:
    """Trap 15: the same creation again succeeds; another one of the same timeline conflicts."""
    tenant = cloud.create_tenant(shards=2)
    timeline = cloud.create_import(tenant)
    cloud.report(cloud.shards(tenant)[0], timeline, progress(3))
    path, body = f"/v1/tenant/{tenant}/timeline", cloud.import_body(timeline)
    assert cloud.api.call("POST", path, body)[0] == 201
    assert cloud.api.call("POST", path, cloud.import_body(timeline, "other key"))[0] == 409
    assert cloud.statuses(tenant, timeline) == {"0002": progress(3), "0102": NOTHING_YET}


def test_create_again_after_the_end(cloud: Cloud) -> None:
    """A repeated creation of what is finished starts nothing that nobody would ever end (I10)."""
    tenant = cloud.create_tenant()
    timeline = cloud.create_import(tenant)
    cloud.report(tenant, timeline, "Done")
    cloud.wait_told(timeline)
    path = f"/v1/tenant/{tenant}/timeline"
    assert cloud.api.call("POST", path, cloud.import_body(timeline))[0] == 201
    assert cloud.api.call("POST", path, cloud.import_body(timeline, "other key"))[0] == 409
    assert cloud.statuses(tenant, timeline) is None
    assert cloud.told(timeline) == [None]


def test_two_creations_at_once(cloud: Cloud) -> None:
    """Both succeed, and there is one import."""
    tenant = cloud.create_tenant(shards=2)
    timelines = [uuid.uuid4().hex for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda t: cloud.create_import(tenant, t), timelines * 2))) == 8
    assert len(cloud.query("SELECT 1 FROM timeline_imports")) == 4


def test_creation_goes_on_without_its_client(make_cloud: MakeCloud) -> None:
    """I10, trap 14: killed after the row, before any pageserver knew: nobody repeats it, yet it ends."""
    cloud = make_cloud(runs_imports=True)
    tenant = cloud.create_tenant(shards=2)
    timeline = uuid.uuid4().hex
    cloud.failpoint("storcon-write-insert-import-post", "exit")
    with pytest.raises(Exception, match="timeline"):
        cloud.create_import(tenant, timeline)
    assert cloud.node(1).calls(r"POST .*/timeline$") == []
    cloud.start_controller()
    assert cloud.wait_told(timeline) is None


def test_creation_follows_a_shard_that_moves(make_cloud: MakeCloud) -> None:
    """Trap 14: the attachment changes while a pageserver creates; the timeline is on the new one too."""
    cloud = make_cloud(nodes=2, runs_imports=True)
    tenant = cloud.create_tenant()
    origin = cloud.issued(tenant)[1]
    assert origin is not None
    gate = cloud.node(origin).hold(r"POST .*/timeline$")
    timeline = uuid.uuid4().hex
    with ThreadPoolExecutor(1) as pool:
        creation = pool.submit(cloud.create_import, tenant, timeline)
        cloud.wait(lambda: cloud.node(origin).calls(r"POST .*/timeline$"), "the pageserver to be asked")
        migrate(cloud, tenant, 3 - origin)
        gate.set()
        creation.result()
    assert cloud.wait_told(timeline) is None
    assert cloud.remote.timelines(tenant)[timeline].imported


def migrate(cloud: Cloud, shard: str, node: int, **config: Any) -> None:
    body = {"node_id": node, "migration_config": {"prewarm": False, "override_scheduler": True, **config}}
    cloud.api.ok("PUT", f"/control/v1/tenant/{shard}/migrate", body)


def test_a_refused_creation_leaves_nothing(cloud: Cloud) -> None:
    """I9: one shard's pageserver refuses; the other's timeline and the row are gone when the client hears."""
    tenant = cloud.create_tenant(shards=2)
    first, second = cloud.shards(tenant)
    cloud.node(1).inject(Fault(rf"POST .*{second}/timeline$", 406))
    timeline = uuid.uuid4().hex
    with pytest.raises(Refused) as refusal:
        cloud.create_import(tenant, timeline)
    assert refusal.value.status == 409
    assert "406 Not Acceptable" in str(refusal.value.msg)
    assert cloud.statuses(tenant, timeline) is None
    assert cloud.remote.timelines(first) == {}


@pytest.mark.parametrize("status", [503, 500, 404, None])
def test_creation_outlasts_a_pageserver_in_trouble(make_cloud: MakeCloud, status: int | None) -> None:
    """I10: what may pass is tried again."""
    cloud = make_cloud(runs_imports=True)
    tenant = cloud.create_tenant(shards=2)
    cloud.node(1).inject(Fault(r"POST .*/timeline$", status, times=3))
    timeline = cloud.create_import(tenant)
    assert cloud.wait_told(timeline) is None


def test_create_needs_an_attached_tenant(cloud: Cloud) -> None:
    """Trap 28: 404 for an unknown tenant; 409 for a detached one, before and after a restart."""
    tenant = cloud.create_tenant()
    timeline = uuid.uuid4().hex
    with pytest.raises(Refused, match=r"404.*Tenant not found"):
        cloud.create_import(uuid.uuid4().hex, timeline)
    cloud.set_policy(tenant, "Detached")
    cloud.wait_idle()
    for _ in range(2):
        with pytest.raises(Refused, match=f"409.*Shard {tenant} tenant has policy Detached"):
            cloud.create_import(tenant, timeline)
        cloud.restart_controller()
    assert cloud.statuses(tenant, timeline) is None


# Finalisation


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


def test_complete_import_is_finished_after_a_restart(cloud: Cloud) -> None:
    """I7: the row is all that a new process needs."""
    tenant = cloud.create_tenant()
    timeline = cloud.create_import(tenant)
    cloud.failpoint("timeline-import-pre-cplane-notification", "pause")
    cloud.report(tenant, timeline, "Done")
    cloud.restart_controller()
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
        return "--control-plane-url" in str(describe(cloud, tenant, timeline)["waiting_for"])

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


# Interruptions


def test_detach_and_attach_keep_the_record(cloud: Cloud) -> None:
    """I3, I10: an interrupted import goes on in its new generation from where it was."""
    tenant = cloud.create_tenant(shards=2)
    timeline = cloud.create_import(tenant)
    for shard in cloud.shards(tenant):
        cloud.report(shard, timeline, progress(4))
    cloud.set_policy(tenant, "Detached")
    cloud.wait_idle()
    assert cloud.node(1).locations == {}
    assert is_importing(cloud, tenant)
    cloud.restart_controller()
    cloud.set_policy(tenant, {"Attached": 0})
    cloud.wait_idle()
    for shard in cloud.shards(tenant):
        assert cloud.issued(shard)[0] == 2
        assert cloud.fetch(shard, timeline) == (200, progress(4))
        assert cloud.report(shard, timeline, "Done", 1)[0] == 412
        assert cloud.report(shard, timeline, "Done", 2)[0] == 200
    assert cloud.wait_told(timeline) is None


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


# Deletion


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
        time.sleep(0.05)  # The deletion has every chance to overtake.
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


def test_rows_of_another_controller_are_finished(cloud: Cloud) -> None:
    """A database that the real controller wrote, which knows nothing of our columns."""
    tenant = cloud.create_tenant()
    timeline = uuid.uuid4().hex
    cloud.api.ok("POST", f"/v1/tenant/{tenant}/timeline", cloud.import_body(timeline))
    cloud.execute("UPDATE timeline_imports SET request = NULL, created = false, shard_history = '{}'")
    cloud.restart_controller()
    assert describe(cloud, tenant, timeline)["phase"] == "importing"
    cloud.report(tenant, timeline, "Done")
    assert cloud.wait_told(timeline) is None


# What people see


def describe(cloud: Cloud, tenant: str, timeline: str) -> dict[str, Any]:
    info: dict[str, Any] = cloud.api.ok("GET", f"/control/v1/tenant/{tenant}/timeline/{timeline}/import")
    return info


def test_progress_is_readable(cloud: Cloud) -> None:
    """Per shard: jobs, completed, percent, last change; durable like the rest."""
    tenant = cloud.create_tenant(shards=2)
    timeline = cloud.create_import(tenant)
    first, second = cloud.shards(tenant)
    new = describe(cloud, tenant, timeline)
    assert [s["completed"] for s in new["shards"]] == [0, 0]
    cloud.report(first, timeline, progress(4))
    cloud.report(second, timeline, progress(10))
    cloud.report(second, timeline, "Done")
    before = describe(cloud, tenant, timeline)
    cloud.restart_controller()
    info = describe(cloud, tenant, timeline)
    assert info == before
    assert info["phase"] == "importing"
    assert info["percent"] == 70
    assert info["error"] is None
    assert info["last_change"] > new["last_change"]
    facts = [(s["shard"], s["jobs"], s["completed"], s["percent"]) for s in info["shards"]]
    assert facts == [("0002", 10, 4, 40), ("0102", 10, 10, 100)]
    assert cloud.api.ok("GET", "/control/v1/import") == [info]
    assert cloud.api.ok("GET", f"/control/v1/tenant/{tenant}/import") == [info]
    cloud.report(first, timeline, {"Error": "x"})
    error = cloud.wait_told(timeline)
    finished = describe(cloud, tenant, timeline)
    assert (finished["phase"], finished["error"]) == ("finished", error)
    assert cloud.api.ok("GET", "/control/v1/import") == []
    assert cloud.api.call("GET", f"/control/v1/tenant/{tenant}/timeline/{tenant}/import")[0] == 404
