"""An import as one pageserver sees it: create, import, report, activate, read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.key import BLCKSZ, CONTROLFILE_KEY, Key
from reattach.fixtures.processes import wait_for
from test_runner.regress.pageserver.subject import REL, REL_PATH, Subject

JOBS = 10
THRESHOLD = 2


def assert_relation_is_there(subject: Subject) -> None:
    """I8, for one relation, the control file and the first block that is not there."""
    blocks = len(subject.bucket.read(REL_PATH)) // BLCKSZ
    for block in (0, 1, blocks - 1):
        assert subject.get_page(REL.block(block)) == subject.source_page(block)
    assert subject.get_page(CONTROLFILE_KEY) == subject.bucket.read("pgdata/global/pg_control")
    path = f"{subject.path}/getpage?key={REL.block(blocks)}"
    missing = subject.pageserver.call("GET", path, expect=500)
    assert f"could not find data for key [{REL.block(blocks)}" in missing["msg"]


def test_import_activate_read(subject: Subject) -> None:
    """I8: what getpage answers after activation are the bucket's bytes."""
    pageserver = subject.pageserver
    subject.attach()
    created = subject.create_import()
    assert (created["state"], created["pg_version"]) == ("Loading", 15)
    assert created["last_record_lsn"] == "0/0"
    subject.wait_recorded()
    pageserver.call("GET", subject.path, expect=404)
    assert pageserver.call("GET", f"/v1/tenant/{subject.tenant}/timeline") == []
    info = subject.activate()
    assert info["initdb_lsn"] == info["min_readable_lsn"] == info["prev_record_lsn"] == "0/1500028"
    assert info["disk_consistent_lsn"] == info["last_record_lsn"] == "0/1500030"
    assert info["remote_consistent_lsn_visible"] == "0/1500030"
    assert_relation_is_there(subject)
    assert subject.activate() == info
    pageserver.kill()
    pageserver.start()
    assert_relation_is_there(subject)


def test_values_route(subject: Subject) -> None:
    subject.attach()
    subject.import_and_activate()
    found: dict[Key, bytes] = {}
    start: str | None = str(REL.block(0))
    while start is not None:
        path = f"{subject.path}/values?start={start}&end={REL.block(1000)}"
        response = subject.pageserver.request("GET", path)
        assert response.status_code == 200
        frames = response.content
        while frames:
            length = int.from_bytes(frames[18:22])
            found[Key.from_bytes(frames[:18])] = frames[22 : 22 + length]
            frames = frames[22 + length :]
        start = response.headers.get("x-next-key")
    assert b"".join(found[key] for key in sorted(found)) == subject.bucket.read(REL_PATH)


def test_reset_in_the_same_generation(subject: Subject) -> None:
    """I10: layers that an earlier attachment wrote in this very generation are replaced, not an error."""
    pageserver = subject.pageserver
    generation = subject.attach()
    subject.import_until("import-job-5-taken-pausable")
    # An index that lists jobs after the last checkpoint, as one that an eager flush uploaded would.
    pageserver.location(subject.tenant, "AttachedStale", generation, query="?flush_ms=10000")
    pageserver.location(subject.tenant, "AttachedSingle", generation)
    remote = subject.remote
    assert len(remote.referenced(generation)) > 4
    pageserver.call("POST", f"/v1/tenant/{subject.tenant}/reset")
    pageserver.failpoint("import-job-5-taken-pausable", "off")
    subject.wait_recorded()
    subject.activate()
    assert_relation_is_there(subject)
    pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
    remote.assert_index_is_durable(generation)
    assert remote.layers() == remote.referenced(generation)


def test_reset_before_the_first_checkpoint(subject: Subject) -> None:
    """A wipe must not delete, some time later, the objects that were written again under the same names."""
    pageserver = subject.pageserver
    generation = subject.attach()
    subject.import_until("import-job-1-taken-pausable")
    pageserver.location(subject.tenant, "AttachedStale", generation, query="?flush_ms=10000")
    pageserver.location(subject.tenant, "AttachedSingle", generation)
    remote = subject.remote
    assert remote.referenced(generation)
    pageserver.call("POST", f"/v1/tenant/{subject.tenant}/reset")
    pageserver.failpoint("import-job-1-taken-pausable", "off")
    subject.wait_recorded()
    pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
    remote.assert_index_is_durable(generation)
    subject.activate()
    assert_relation_is_there(subject)


def test_shards_keep_their_own_keys(subject: Subject) -> None:
    """I8: no shard's layers have a key that it has no use for; each page is on exactly one shard."""
    pageserver = subject.pageserver
    shards = [TenantShardId(subject.tenant.tenant_id, number, 2) for number in range(2)]
    owners: dict[int, list[int]] = {}
    for shard in shards:
        generation = pageserver.controller.next_generation(str(shard))
        pageserver.location(shard, "AttachedSingle", generation, shard_stripe_size=4)
        pageserver.create_import(shard, subject.timeline, subject.bucket.root)
    for shard in shards:
        pageserver.wait_recorded(shard, subject.timeline)
        pageserver.activate(shard, subject.timeline)
        base = f"/v1/tenant/{shard}/timeline/{subject.timeline}"
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


def test_a_failed_import_is_never_activated(subject: Subject) -> None:
    """I6, I11: the error names the object; activation is refused; the index never says Done."""
    pageserver = subject.pageserver
    (subject.bucket.root / "pgdata/base/5/pg_filenode.map").unlink()
    generation = subject.attach()
    subject.create_import()
    reason = wait_for(
        lambda: (subject.recorded() or {}).get("Error"),
        what="an error",
        timeout=20,
        alive=pageserver.running,
    )
    assert "pgdata/base/5/pg_filenode.map" in reason
    path = f"{subject.path}/activate_post_import"
    wait_for(lambda: pageserver.request("PUT", path).status_code == 412, what="a refusal", timeout=10)
    assert reason in pageserver.call("PUT", path, expect=412)["msg"]
    pageserver.kill()
    pageserver.start()
    pageserver.wait_log("shard status is terminal already", 1)
    wait_for(lambda: pageserver.request("PUT", path).status_code == 412, what="a refusal", timeout=10)
    index = subject.remote.index(generation)
    assert list(index["import_pgdata"]["V1"]) == ["InProgress"]


def test_a_bucket_that_cannot_be_opened_is_an_error(subject: Subject) -> None:
    """I11: not even a bucket client can be made of this location."""
    pageserver = subject.pageserver
    subject.attach()
    body = {
        "new_timeline_id": str(subject.timeline),
        "import_pgdata": {
            "location": {"LocalFs": {"path": "/proc/no/such/place"}},
            "idempotency_key": "key",
        },
    }
    pageserver.call("POST", f"/v1/tenant/{subject.tenant}/timeline", body, expect=201)
    pageserver.controller.expect_import(str(subject.tenant), str(subject.timeline))
    reason = wait_for(
        lambda: (subject.recorded() or {}).get("Error"),
        what="an error",
        timeout=20,
        alive=pageserver.running,
    )
    assert "/proc/no" in reason


def test_create_again(subject: Subject) -> None:
    """I10: whoever lost the answer of a create repeats it, and gets it whatever the import has come to."""
    pageserver = subject.pageserver

    def create(key: str, expect: int) -> str:
        answer = pageserver.create_import(
            subject.tenant, subject.timeline, subject.bucket.root, key=key, expect=expect, insert_row=False
        )
        return str(answer.get("msg"))

    subject.attach()
    subject.import_until("import-timeline-pre-execute-pausable")
    create("key", 201)
    assert create("other", 429) == "creation of timeline with the given ID is in progress"
    pageserver.failpoint("import-timeline-pre-execute-pausable", "off")
    subject.wait_recorded()
    create("key", 201)
    subject.activate()
    create("key", 201)
    assert create("other", 409) == "timeline already exists with different parameters"
    pageserver.kill()
    pageserver.start()
    create("key", 201)
    create("other", 409)


@pytest.mark.parametrize("again", [True, False], ids=["kept", "undone"])
def test_create_that_fails_midway(subject: Subject, again: bool) -> None:
    pageserver = subject.pageserver
    subject.attach()
    pageserver.failpoint("after-timeline-dir-creation", "return")
    subject.create_import(expect=500, insert_row=False)
    pageserver.failpoint("after-timeline-dir-creation", "off")
    assert not subject.directory.exists()
    if again:
        subject.import_and_activate()
    else:
        pageserver.call("DELETE", subject.path, expect=404)


def test_an_import_that_the_controller_forgot(subject: Subject) -> None:
    """I11: it ends and says why, here and after a restart. I10: asked for again, it runs again."""
    pageserver = subject.pageserver
    controller = pageserver.controller
    forgotten = "import task ends without a result: the storage controller has forgotten the import"
    subject.attach()
    subject.import_until("import-job-5-taken-pausable")
    with controller.lock:
        controller.imports.clear()
    pageserver.failpoint("import-job-5-taken-pausable", "off")
    pageserver.wait_log(forgotten)
    path = f"{subject.path}/activate_post_import"
    assert "without a result" in pageserver.call("PUT", path, expect=500)["msg"]

    pageserver.kill()
    asked = len(controller.called("timeline_import_status", "GET"))
    pageserver.start()
    pageserver.wait_log(forgotten, 2)
    assert len(controller.called("timeline_import_status", "GET")) == asked + 3

    subject.create_import()
    subject.wait_recorded()
    subject.create_import(insert_row=False)
    assert len(pageserver.log_lines("starting it anew")) == 1
    subject.activate()
    assert subject.get_page(REL.block(0)) == subject.source_page(0)


def test_two_imports_of_one_tenant(subject: Subject) -> None:
    """Activating one of them does not disturb the other."""
    pageserver = subject.pageserver
    other = TimelineId.generate()
    subject.attach()
    subject.create_import()
    subject.wait_recorded()
    pageserver.failpoint("import-job-5-taken-pausable", "pause")
    pageserver.create_import(subject.tenant, other, subject.bucket.root)
    pageserver.wait_log("at failpoint import-job-5-taken-pausable", 2)
    subject.activate()
    pageserver.failpoint("import-job-5-taken-pausable", "off")
    pageserver.wait_recorded(subject.tenant, other)
    pageserver.activate(subject.tenant, other)
    started = pageserver.log_lines(f"{other}.*import job .* started")
    assert len(started) == JOBS
    for each in (subject.timeline, other):
        assert_relation_is_there(replace(subject, timeline=each))


def test_logical_size(subject: Subject) -> None:
    subject.attach()
    subject.import_and_activate()
    query = "?force-await-initial-logical-size=true"
    info = subject.pageserver.call("GET", f"{subject.path}{query}")
    objects = subject.bucket.objects("pgdata/base")
    relations = [path for path in objects if path.rpartition("/")[2].partition("_")[0].isdigit()]
    assert info["current_logical_size"] == sum(len(subject.bucket.read(path)) for path in relations)
    assert info["current_logical_size_is_accurate"]


def test_garbage_collection_finds_nothing(subject: Subject) -> None:
    """The answer of the real one when its cutoff has nowhere to move to."""
    pageserver = subject.pageserver
    subject.attach()
    path = f"{subject.path}/do_gc"
    subject.create_import()
    subject.wait_recorded()
    missing = pageserver.call("PUT", path, {"gc_horizon": 0}, expect=404)  # not before it is activated
    assert missing == {"msg": "NotFound: Timeline not found"}
    subject.activate()
    before = pageserver.call("GET", f"{subject.path}/layer")
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
    assert pageserver.call("GET", f"{subject.path}/layer") == before


def test_metrics(subject: Subject) -> None:
    pageserver = subject.pageserver
    subject.attach()
    subject.import_and_activate()
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
