"""What shards report, and what is recorded of it."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from test_runner.regress.storage_controller.cloud import Cloud
from test_runner.regress.storage_controller.conftest import MakeCloud
from test_runner.regress.storage_controller.steps import (
    NOTHING_YET,
    describe_import,
    progress,
)


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


def test_progress_is_readable(cloud: Cloud) -> None:
    """Per shard: jobs, completed, percent, last change; durable like the rest."""
    tenant = cloud.create_tenant(shards=2)
    timeline = cloud.create_import(tenant)
    first, second = cloud.shards(tenant)
    new = describe_import(cloud, tenant, timeline)
    assert [s["completed"] for s in new["shards"]] == [0, 0]
    cloud.report(first, timeline, progress(4))
    cloud.report(second, timeline, progress(10))
    cloud.report(second, timeline, "Done")
    before = describe_import(cloud, tenant, timeline)
    cloud.restart_controller()
    info = describe_import(cloud, tenant, timeline)
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
    finished = describe_import(cloud, tenant, timeline)
    assert (finished["phase"], finished["error"]) == ("finished", error)
    assert cloud.api.ok("GET", "/control/v1/import") == []
    assert cloud.api.call("GET", f"/control/v1/tenant/{tenant}/timeline/{tenant}/import")[0] == 404
