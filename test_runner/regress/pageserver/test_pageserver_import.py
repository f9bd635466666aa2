"""An import as one pageserver sees it: create, import, report, activate, read."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.processes import wait_for
from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.key import BLCKSZ, CONTROLFILE_KEY, Key, RelTag
from test_runner.regress.pageserver.one_pageserver import PageserverProcess
from test_runner.regress.pageserver.remote_files import RemoteTimeline
from test_runner.unit.import_pgdata.data_directory import DataDirectory

REL = RelTag(1663, 5, 16384, 0)
REL_PATH = "pgdata/base/5/16384"
JOBS = 10
THRESHOLD = 2


def assert_relation_is_there(
    pageserver: PageserverProcess, tenant: TenantShardId, timeline: TimelineId, bucket: DataDirectory
) -> None:
    """I8, for one relation, the control file and the first block that is not there."""
    source = bucket.read(REL_PATH)
    blocks = len(source) // BLCKSZ
    for block in (0, 1, blocks - 1):
        page = pageserver.get_page(tenant, timeline, REL.block(block))
        assert page == source[block * BLCKSZ : (block + 1) * BLCKSZ]
    assert pageserver.get_page(tenant, timeline, CONTROLFILE_KEY) == bucket.read("pgdata/global/pg_control")
    missing = pageserver.call(
        "GET", f"/v1/tenant/{tenant}/timeline/{timeline}/getpage?key={REL.block(blocks)}", expect=500
    )
    assert f"could not find data for key [{REL.block(blocks)}" in missing["msg"]


def test_import_activate_read(
    pageserver: PageserverProcess, bucket: DataDirectory, tenant: TenantShardId, timeline: TimelineId
) -> None:
    """I8: what getpage answers after activation are the bucket's bytes."""
    pageserver.attach(tenant)
    created = pageserver.create_import(tenant, timeline, bucket.root)
    assert (created["state"], created["pg_version"]) == ("Loading", 15)
    assert created["last_record_lsn"] == "0/0"
    pageserver.wait_recorded(tenant, timeline)
    pageserver.call("GET", f"/v1/tenant/{tenant}/timeline/{timeline}", expect=404)
    assert pageserver.call("GET", f"/v1/tenant/{tenant}/timeline") == []
    info = pageserver.activate(tenant, timeline)
    assert info["initdb_lsn"] == info["min_readable_lsn"] == info["prev_record_lsn"] == "0/1500028"
    assert info["disk_consistent_lsn"] == info["last_record_lsn"] == "0/1500030"
    assert info["remote_consistent_lsn_visible"] == "0/1500030"
    assert_relation_is_there(pageserver, tenant, timeline, bucket)
    assert pageserver.activate(tenant, timeline) == info
    pageserver.kill()
    pageserver.start()
    assert_relation_is_there(pageserver, tenant, timeline, bucket)


def test_values_route(
    pageserver: PageserverProcess, bucket: DataDirectory, tenant: TenantShardId, timeline: TimelineId
) -> None:
    pageserver.attach(tenant)
    pageserver.import_and_activate(tenant, timeline, bucket.root)
    found: dict[Key, bytes] = {}
    start: str | None = str(REL.block(0))
    while start is not None:
        path = f"/v1/tenant/{tenant}/timeline/{timeline}/values?start={start}&end={REL.block(1000)}"
        response = pageserver.request("GET", path)
        assert response.status_code == 200
        frames = response.content
        while frames:
            length = int.from_bytes(frames[18:22])
            found[Key.from_bytes(frames[:18])] = frames[22 : 22 + length]
            frames = frames[22 + length :]
        start = response.headers.get("x-next-key")
    assert b"".join(found[key] for key in sorted(found)) == bucket.read(REL_PATH)


def test_killed_between_checkpoints(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
    tmp_path: Path,
) -> None:
    """I2, I5, I10: killed after job 5 was taken, it goes on after job 4 with what is durable."""
    generation = pageserver.attach(tenant)
    pageserver.failpoint("import-job-5-taken-pausable", "pause")
    pageserver.create_import(tenant, timeline, bucket.root)
    pageserver.wait_log("at failpoint import-job-5-taken-pausable")
    progress = pageserver.recorded(tenant, timeline)["InProgress"]["V1"]
    assert (progress["jobs"], progress["completed"]) == (JOBS, 4)
    pageserver.kill()
    remote = RemoteTimeline(tmp_path / "remote", tenant, timeline)
    remote.assert_index_is_durable(generation)
    assert len(remote.referenced(generation)) >= 4
    before = len(pageserver.log_lines("import job .* started"))
    pageserver.start()
    pageserver.wait_recorded(tenant, timeline)
    started = [
        line.split("import job ")[1] for line in pageserver.log_lines("import job .* started")[before:]
    ]
    assert started == [f"{job}/{JOBS} started" for job in range(5, JOBS + 1)]
    pageserver.activate(tenant, timeline)
    assert_relation_is_there(pageserver, tenant, timeline, bucket)
    pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
    remote.assert_index_is_durable(generation + 1)
    # What was uploaded after the last index of a killed process is known to nobody; deletion removes it.
    unknown = remote.layers() - remote.referenced(generation + 1)
    assert all(name.endswith(f"-{generation:08x}") for name in unknown)


def test_reset_in_the_same_generation(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
    tmp_path: Path,
) -> None:
    """I10: layers that an earlier attachment wrote in this very generation are replaced, not an error."""
    generation = pageserver.attach(tenant)
    pageserver.failpoint("import-job-5-taken-pausable", "pause")
    pageserver.create_import(tenant, timeline, bucket.root)
    pageserver.wait_log("at failpoint import-job-5-taken-pausable")
    # An index that lists jobs after the last checkpoint, as one that an eager flush uploaded would.
    pageserver.location(tenant, "AttachedStale", generation, query="?flush_ms=10000")
    pageserver.location(tenant, "AttachedSingle", generation)
    remote = RemoteTimeline(tmp_path / "remote", tenant, timeline)
    assert len(remote.referenced(generation)) > 4
    pageserver.call("POST", f"/v1/tenant/{tenant}/reset")
    pageserver.failpoint("import-job-5-taken-pausable", "off")
    pageserver.wait_recorded(tenant, timeline)
    pageserver.activate(tenant, timeline)
    assert_relation_is_there(pageserver, tenant, timeline, bucket)
    pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
    remote.assert_index_is_durable(generation)
    assert remote.layers() == remote.referenced(generation)


def test_reset_before_the_first_checkpoint(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
    tmp_path: Path,
) -> None:
    """A wipe must not delete, some time later, the objects that were written again under the same names."""
    generation = pageserver.attach(tenant)
    pageserver.failpoint("import-job-1-taken-pausable", "pause")
    pageserver.create_import(tenant, timeline, bucket.root)
    pageserver.wait_log("at failpoint import-job-1-taken-pausable")
    pageserver.location(tenant, "AttachedStale", generation, query="?flush_ms=10000")
    pageserver.location(tenant, "AttachedSingle", generation)
    remote = RemoteTimeline(tmp_path / "remote", tenant, timeline)
    assert remote.referenced(generation)
    pageserver.call("POST", f"/v1/tenant/{tenant}/reset")
    pageserver.failpoint("import-job-1-taken-pausable", "off")
    pageserver.wait_recorded(tenant, timeline)
    pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
    remote.assert_index_is_durable(generation)
    pageserver.activate(tenant, timeline)
    assert_relation_is_there(pageserver, tenant, timeline, bucket)


def test_shards_keep_their_own_keys(
    pageserver: PageserverProcess, bucket: DataDirectory, tenant: TenantShardId, timeline: TimelineId
) -> None:
    """I8: no shard's layers have a key that it has no use for; each page is on exactly one shard."""
    shards = [TenantShardId(tenant.tenant_id, number, 2) for number in range(2)]
    owners: dict[int, list[int]] = {}
    for shard in shards:
        generation = pageserver.controller.next_generation(str(shard))
        pageserver.location(shard, "AttachedSingle", generation, shard_stripe_size=4)
        pageserver.create_import(shard, timeline, bucket.root)
    for shard in shards:
        pageserver.wait_recorded(shard, timeline)
        pageserver.activate(shard, timeline)
        base = f"/v1/tenant/{shard}/timeline/{timeline}"
        layers = pageserver.call("GET", f"{base}/layer")["historic_layers"]
        assert layers
        counts = [
            pageserver.call("POST", f"{base}/layer/{layer['layer_file_name']}/scan_disposable_keys")
            for layer in layers
        ]
        assert sum(each["disposable_count"] for each in counts) == 0
        assert sum(each["not_disposable_count"] for each in counts) > 0
        for block in range(70):
            if pageserver.request("GET", f"{base}/getpage?key={REL.block(block)}").status_code == 200:
                owners.setdefault(block, []).append(shard.shard_number)
    assert sorted(owners) == list(range(70))
    assert {len(each) for each in owners.values()} == {1}
    assert {each[0] for each in owners.values()} == {0, 1}


def test_a_failed_import_is_never_activated(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
    tmp_path: Path,
) -> None:
    """I6, I11: the error names the object; activation is refused; the index never says Done."""
    (bucket.root / "pgdata/base/5/pg_filenode.map").unlink()
    generation = pageserver.attach(tenant)
    pageserver.create_import(tenant, timeline, bucket.root)
    reason = wait_for(
        lambda: (pageserver.recorded(tenant, timeline) or {}).get("Error"),
        what="an error",
        timeout=20,
        alive=pageserver.running,
    )
    assert "pgdata/base/5/pg_filenode.map" in reason
    path = f"/v1/tenant/{tenant}/timeline/{timeline}/activate_post_import"
    wait_for(lambda: pageserver.request("PUT", path).status_code == 412, what="a refusal", timeout=10)
    assert reason in pageserver.call("PUT", path, expect=412)["msg"]
    pageserver.kill()
    pageserver.start()
    pageserver.wait_log("shard status is terminal already", 1)
    wait_for(lambda: pageserver.request("PUT", path).status_code == 412, what="a refusal", timeout=10)
    index = RemoteTimeline(tmp_path / "remote", tenant, timeline).index(generation)
    assert list(index["import_pgdata"]["V1"]) == ["InProgress"]


def test_a_bucket_that_cannot_be_opened_is_an_error(
    pageserver: PageserverProcess, tenant: TenantShardId, timeline: TimelineId
) -> None:
    """I11: not even a bucket client can be made of this location."""
    pageserver.attach(tenant)
    body = {
        "new_timeline_id": str(timeline),
        "import_pgdata": {
            "location": {"LocalFs": {"path": "/proc/no/such/place"}},
            "idempotency_key": "key",
        },
    }
    pageserver.call("POST", f"/v1/tenant/{tenant}/timeline", body, expect=201)
    pageserver.controller.expect_import(str(tenant), str(timeline))
    reason = wait_for(
        lambda: (pageserver.recorded(tenant, timeline) or {}).get("Error"),
        what="an error",
        timeout=20,
        alive=pageserver.running,
    )
    assert "/proc/no" in reason


def test_create_again(
    pageserver: PageserverProcess, bucket: DataDirectory, tenant: TenantShardId, timeline: TimelineId
) -> None:
    """I10: whoever lost the answer of a create repeats it, and gets it whatever the import has come to."""

    def create(key: str, expect: int) -> str:
        answer = pageserver.create_import(
            tenant, timeline, bucket.root, key=key, expect=expect, insert_row=False
        )
        return str(answer.get("msg"))

    pageserver.attach(tenant)
    pageserver.failpoint("import-timeline-pre-execute-pausable", "pause")
    pageserver.create_import(tenant, timeline, bucket.root)
    pageserver.wait_log("at failpoint import-timeline-pre-execute-pausable")
    create("key", 201)
    assert create("other", 429) == "creation of timeline with the given ID is in progress"
    pageserver.failpoint("import-timeline-pre-execute-pausable", "off")
    pageserver.wait_recorded(tenant, timeline)
    create("key", 201)
    pageserver.activate(tenant, timeline)
    create("key", 201)
    assert create("other", 409) == "timeline already exists with different parameters"
    pageserver.kill()
    pageserver.start()
    create("key", 201)
    create("other", 409)


@pytest.mark.parametrize("again", [True, False], ids=["kept", "undone"])
def test_create_that_fails_midway(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
    again: bool,
) -> None:
    pageserver.attach(tenant)
    pageserver.failpoint("after-timeline-dir-creation", "return")
    pageserver.create_import(tenant, timeline, bucket.root, expect=500, insert_row=False)
    pageserver.failpoint("after-timeline-dir-creation", "off")
    assert not pageserver.timeline_dir(tenant, timeline).exists()
    if again:
        pageserver.import_and_activate(tenant, timeline, bucket.root)
    else:
        pageserver.call("DELETE", f"/v1/tenant/{tenant}/timeline/{timeline}", expect=404)


def test_an_import_that_the_controller_forgot(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
) -> None:
    """I11: it ends and says why, here and after a restart. I10: asked for again, it runs again."""
    controller = pageserver.controller
    forgotten = "import task ends without a result: the storage controller has forgotten the import"
    pageserver.attach(tenant)
    pageserver.failpoint("import-job-5-taken-pausable", "pause")
    pageserver.create_import(tenant, timeline, bucket.root)
    pageserver.wait_log("at failpoint import-job-5-taken-pausable")
    with controller.lock:
        controller.imports.clear()
    pageserver.failpoint("import-job-5-taken-pausable", "off")
    pageserver.wait_log(forgotten)
    path = f"/v1/tenant/{tenant}/timeline/{timeline}/activate_post_import"
    assert "without a result" in pageserver.call("PUT", path, expect=500)["msg"]

    pageserver.kill()
    asked = len(controller.called("timeline_import_status", "GET"))
    pageserver.start()
    pageserver.wait_log(forgotten, 2)
    assert len(controller.called("timeline_import_status", "GET")) == asked + 3

    pageserver.create_import(tenant, timeline, bucket.root)
    pageserver.wait_recorded(tenant, timeline)
    pageserver.create_import(tenant, timeline, bucket.root, insert_row=False)
    assert len(pageserver.log_lines("starting it anew")) == 1
    pageserver.activate(tenant, timeline)
    assert pageserver.get_page(tenant, timeline, REL.block(0)) == bucket.read("pgdata/base/5/16384")[:BLCKSZ]


def test_two_imports_of_one_tenant(
    pageserver: PageserverProcess, bucket: DataDirectory, tenant: TenantShardId, timeline: TimelineId
) -> None:
    """Activating one of them does not disturb the other."""
    other = TimelineId.generate()
    pageserver.attach(tenant)
    pageserver.create_import(tenant, timeline, bucket.root)
    pageserver.wait_recorded(tenant, timeline)
    pageserver.failpoint("import-job-5-taken-pausable", "pause")
    pageserver.create_import(tenant, other, bucket.root)
    pageserver.wait_log("at failpoint import-job-5-taken-pausable", 2)
    pageserver.activate(tenant, timeline)
    pageserver.failpoint("import-job-5-taken-pausable", "off")
    pageserver.wait_recorded(tenant, other)
    pageserver.activate(tenant, other)
    started = pageserver.log_lines(f"{other}.*import job .* started")
    assert len(started) == JOBS
    for each in (timeline, other):
        assert_relation_is_there(pageserver, tenant, each, bucket)


def test_logical_size(
    pageserver: PageserverProcess, bucket: DataDirectory, tenant: TenantShardId, timeline: TimelineId
) -> None:
    pageserver.attach(tenant)
    pageserver.import_and_activate(tenant, timeline, bucket.root)
    query = "?force-await-initial-logical-size=true"
    info = pageserver.call("GET", f"/v1/tenant/{tenant}/timeline/{timeline}{query}")
    relations = [
        path for path in bucket.objects("pgdata/base") if path.rpartition("/")[2].partition("_")[0].isdigit()
    ]
    assert info["current_logical_size"] == sum(len(bucket.read(path)) for path in relations)
    assert info["current_logical_size_is_accurate"]


def test_garbage_collection_finds_nothing(
    pageserver: PageserverProcess, bucket: DataDirectory, tenant: TenantShardId, timeline: TimelineId
) -> None:
    """The answer of the real one when its cutoff has nowhere to move to."""
    pageserver.attach(tenant)
    path = f"/v1/tenant/{tenant}/timeline/{timeline}/do_gc"
    pageserver.create_import(tenant, timeline, bucket.root)
    pageserver.wait_recorded(tenant, timeline)
    missing = pageserver.call("PUT", path, {"gc_horizon": 0}, expect=404)  # not before it is activated
    assert missing == {"msg": "NotFound: Timeline not found"}
    pageserver.activate(tenant, timeline)
    before = pageserver.call("GET", f"/v1/tenant/{tenant}/timeline/{timeline}/layer")
    for horizon in (0, None, 1 << 63):
        answer = pageserver.call("PUT", path, {"gc_horizon": horizon})
        assert 0 <= answer.pop("elapsed") < 1000
        assert answer == dict.fromkeys(
            (
                "layers_total",
                "layers_needed_by_cutoff",
                "layers_needed_by_pitr",
                "layers_needed_by_branches",
                "layers_needed_by_leases",
                "layers_not_updated",
                "layers_removed",
            ),
            0,
        )
    assert pageserver.call("GET", f"/v1/tenant/{tenant}/timeline/{timeline}/layer") == before


def test_metrics(
    pageserver: PageserverProcess, bucket: DataDirectory, tenant: TenantShardId, timeline: TimelineId
) -> None:
    pageserver.attach(tenant)
    pageserver.import_and_activate(tenant, timeline, bucket.root)
    assert pageserver.metric("pageserver_import_jobs_planned_total") == JOBS
    assert pageserver.metric("pageserver_import_jobs_done_total") == JOBS
    assert pageserver.metric("pageserver_import_jobs_rerun_total") == 0
    assert pageserver.metric("pageserver_import_bytes_read_total") > 70 * BLCKSZ
    assert pageserver.metric("pageserver_import_checkpoint_seconds_count") == JOBS / THRESHOLD
    assert pageserver.metric("pageserver_imports_pending") == 0
    started = pageserver.metric("pageserver_remote_timeline_client_calls_started_total")
    assert started == pageserver.metric("pageserver_remote_timeline_client_calls_finished_total") > JOBS
    size = pageserver.metric("pageserver_remote_physical_size")
    assert size == pageserver.metric("pageserver_resident_physical_size") > 0
