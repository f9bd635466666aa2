"""Attach, detach, attach elsewhere: generations decide what counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.ports import PortDistributor
from fixtures.processes import Launcher, wait_for
from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.key import BLCKSZ, RelTag
from test_runner.regress.pageserver.one_pageserver import PageserverProcess
from test_runner.regress.pageserver.remote_files import RemoteTimeline
from test_runner.regress.pageserver.scripted_controller import FakeController
from test_runner.unit.import_pgdata.data_directory import DataDirectory

REL = RelTag(1663, 5, 16384, 0)


@pytest.fixture
def second(
    launcher: Launcher, port_distributor: PortDistributor, controller: FakeController, tmp_path: Path
) -> Iterator[PageserverProcess]:
    """Another pageserver with the same remote storage and controller."""
    server = PageserverProcess.create(launcher, controller, port_distributor, tmp_path, node_id=2)
    yield server.start()
    server.kill()
    server.session.close()


def first_page(bucket: DataDirectory) -> bytes:
    return bucket.read("pgdata/base/5/16384")[:BLCKSZ]


def test_detach_and_attach_while_importing(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
    tmp_path: Path,
) -> None:
    """I10: the next attachment finishes what the one before began; replaced layers go."""
    pageserver.attach(tenant)
    for job in (3, 5, 9):
        pageserver.failpoint(f"import-job-{job}-taken-pausable", "pause")
        if job == 3:
            pageserver.create_import(tenant, timeline, bucket.root)
        pageserver.wait_log(f"at failpoint import-job-{job}-taken-pausable")
        pageserver.detach(tenant)
        assert not (pageserver.workdir / "tenants" / str(tenant)).exists()
        pageserver.call("GET", f"/v1/tenant/{tenant}", expect=404)
        pageserver.failpoint(f"import-job-{job}-taken-pausable", "off")
        pageserver.failpoint("import-job-5-taken-pausable" if job == 3 else "x", "pause")
        pageserver.failpoint("import-job-9-taken-pausable" if job == 5 else "x", "pause")
        generation = pageserver.attach(tenant)
    pageserver.wait_recorded(tenant, timeline)
    pageserver.activate(tenant, timeline)
    assert pageserver.get_page(tenant, timeline, REL.block(0)) == first_page(bucket)
    completed = [
        call.body["status"]["InProgress"]["V1"]["completed"]
        for call in pageserver.controller.called("timeline_import_status")
        if call.body["status"] != "Done"
    ]
    assert completed == sorted(set(completed)), "I3: progress fell or was repeated"
    pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
    RemoteTimeline(tmp_path / "remote", tenant, timeline).assert_index_is_durable(generation)


def test_the_old_attachment_is_fenced(
    pageserver: PageserverProcess,
    second: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
    tmp_path: Path,
) -> None:
    """I4: two nodes import at once; the stale one can neither report nor delete nor overwrite."""
    pageserver.attach(tenant)
    pageserver.failpoint("import-job-5-taken-pausable", "pause")
    pageserver.create_import(tenant, timeline, bucket.root)
    pageserver.wait_log("at failpoint import-job-5-taken-pausable")
    second.failpoint("import-job-7-taken-pausable", "pause")
    generation = second.attach(tenant)
    second.wait_log("at failpoint import-job-7-taken-pausable")
    pageserver.failpoint("import-job-5-taken-pausable", "off")
    pageserver.wait_log("will retry.*412.*Invalid generation", 2)
    completed = pageserver.recorded(tenant, timeline)["InProgress"]["V1"]["completed"]
    assert completed == 6
    second.failpoint("import-job-7-taken-pausable", "off")
    second.wait_recorded(tenant, timeline)
    second.activate(tenant, timeline)
    remote = RemoteTimeline(tmp_path / "remote", tenant, timeline)
    pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
    second.call("PUT", "/v1/deletion_queue/flush?execute=true")
    remote.assert_index_is_durable(generation)
    pageserver.detach(tenant)
    assert second.get_page(tenant, timeline, REL.block(0)) == first_page(bucket)


def test_stale_deletions_are_dropped_and_counted(
    pageserver: PageserverProcess,
    second: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
    tmp_path: Path,
) -> None:
    """I4: a wipe by an attachment that is not the current one any more deletes nothing."""
    pageserver.attach(tenant)
    pageserver.failpoint("import-job-3-taken-pausable", "pause")
    pageserver.create_import(tenant, timeline, bucket.root)
    pageserver.wait_log("at failpoint import-job-3-taken-pausable")
    remote = RemoteTimeline(tmp_path / "remote", tenant, timeline)
    # The controller forgets the progress, so that the next attachment begins with a wipe.
    pageserver.controller.expect_import(str(tenant), str(timeline))
    pageserver.failpoint("import-timeline-pre-execute-pausable", "pause")
    pageserver.attach(tenant)
    pageserver.wait_log("at failpoint import-timeline-pre-execute-pausable", 2)
    before = remote.layers()
    assert before
    second.attach(tenant)
    pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
    assert before <= remote.layers()
    assert pageserver.metric("pageserver_deletion_queue_dropped_total") > 0
    assert pageserver.metric("pageserver_deletion_queue_executed_total") == 0


def test_multi_holds_deletions_back_until_single(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
) -> None:
    pageserver.attach(tenant)
    pageserver.failpoint("import-job-3-taken-pausable", "pause")
    pageserver.create_import(tenant, timeline, bucket.root)
    pageserver.wait_log("at failpoint import-job-3-taken-pausable")
    pageserver.controller.expect_import(str(tenant), str(timeline))
    pageserver.failpoint("import-job-3-taken-pausable", "off")
    generation = pageserver.attach(tenant, "AttachedMulti")
    pageserver.wait_recorded(tenant, timeline)
    pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
    assert pageserver.metric("pageserver_deletion_queue_submitted_total") == 0
    pageserver.location(tenant, "AttachedSingle", generation)
    pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
    assert pageserver.metric("pageserver_deletion_queue_executed_total") > 0


def test_attach_elsewhere_from_an_empty_disk(
    pageserver: PageserverProcess,
    second: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
) -> None:
    """I8: remote storage is the truth; pages come over when they are asked for."""
    pageserver.attach(tenant)
    pageserver.import_and_activate(tenant, timeline, bucket.root)
    second.attach(tenant)
    layers = second.call("GET", f"/v1/tenant/{tenant}/timeline/{timeline}/layer")["historic_layers"]
    assert layers
    assert all(layer["remote"] for layer in layers)
    assert second.get_page(tenant, timeline, REL.block(0)) == first_page(bucket)
    assert second.metric("pageserver_ondemand_downloads_total") == 1


@pytest.mark.parametrize("damage", ["gone", "truncated", "flipped"])
def test_damaged_local_layers_come_again(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
    damage: str,
) -> None:
    """I8: a page is never served from a local file that is not what was uploaded."""
    pageserver.attach(tenant)
    pageserver.import_and_activate(tenant, timeline, bucket.root)
    pageserver.kill()
    files = sorted(pageserver.timeline_dir(tenant, timeline).iterdir())
    assert len(files) > 1
    for file in files:
        raw = bytearray(file.read_bytes())
        if damage == "gone":
            file.unlink()
        elif damage == "truncated":
            file.write_bytes(raw[:-BLCKSZ])
        else:
            raw[BLCKSZ + 50] ^= 1
            file.write_bytes(raw)
    pageserver.start()
    assert pageserver.get_page(tenant, timeline, REL.block(0)) == first_page(bucket)
    assert pageserver.metric("pageserver_ondemand_downloads_total") == 1


def test_restart_from_an_empty_disk(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
) -> None:
    pageserver.attach(tenant)
    pageserver.import_and_activate(tenant, timeline, bucket.root)
    pageserver.kill()
    pageserver.wipe_disk()
    pageserver.start()
    re_attach = pageserver.controller.called("re-attach")
    assert [call.body["empty_local_disk"] for call in re_attach] == [True, True]
    pageserver.call("GET", f"/v1/tenant/{tenant}", expect=404)
    pageserver.attach(tenant)
    assert pageserver.get_page(tenant, timeline, REL.block(0)) == first_page(bucket)


def test_restart_after_the_tenant_went_elsewhere(
    pageserver: PageserverProcess, tenant: TenantShardId
) -> None:
    pageserver.attach(tenant)
    pageserver.kill()
    pageserver.controller.detach(str(tenant))
    pageserver.start()
    assert pageserver.call("GET", "/v1/location_config") == {"tenant_shards": []}
    wait_for(
        lambda: list((pageserver.workdir / "tenants").iterdir()) == [],
        what="an empty tenants directory",
        timeout=10,
        alive=pageserver.running,
    )


def test_unreadable_config_is_made_anew(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
) -> None:
    """I10: what the controller says is enough to attach."""
    pageserver.attach(tenant)
    pageserver.import_and_activate(tenant, timeline, bucket.root)
    pageserver.kill()
    (pageserver.workdir / "tenants" / str(tenant) / "config-v1").write_text("[mode")
    pageserver.start()
    assert pageserver.get_page(tenant, timeline, REL.block(0)) == first_page(bucket)


def test_evict_and_download(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
) -> None:
    pageserver.attach(tenant)
    pageserver.import_and_activate(tenant, timeline, bucket.root)
    base = f"/v1/tenant/{tenant}/timeline/{timeline}/layer"
    names = [layer["layer_file_name"] for layer in pageserver.call("GET", base)["historic_layers"]]
    for name in names:
        pageserver.call("DELETE", f"{base}/{name}")
        pageserver.call("DELETE", f"{base}/{name}", expect=304)
    assert list(pageserver.timeline_dir(tenant, timeline).iterdir()) == []
    pageserver.call("GET", f"{base}/{names[0]}")
    pageserver.call("GET", f"{base}/{names[0]}", expect=304)
    pageserver.call("GET", f"{base}/nonsense", expect=400)
    remote = {
        layer["layer_file_name"]: layer["remote"] for layer in pageserver.call("GET", base)["historic_layers"]
    }
    assert remote == {name: name != names[0] for name in names}
    assert pageserver.get_page(tenant, timeline, REL.block(0)) == first_page(bucket)
    finished = pageserver.call("PUT", "/v1/disk_usage_eviction/run", {"evict_bytes": 1 << 40})["Finished"]
    assert finished["assumed"]["projected_after"]["freed_bytes"] > 0
    assert list(pageserver.timeline_dir(tenant, timeline).iterdir()) == []
    assert pageserver.call("PUT", "/v1/disk_usage_eviction/run", {"evict_bytes": 0}) == "NoPressure"


def test_eviction_spares_what_is_not_uploaded(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
) -> None:
    """I8: layers of a running import may be evicted, but not before remote storage has them."""
    pageserver.attach(tenant)
    pageserver.failpoint("before-upload-layer-pausable", "pause")
    pageserver.create_import(tenant, timeline, bucket.root)
    pageserver.wait_log("at failpoint before-upload-layer-pausable")
    finished = pageserver.call("PUT", "/v1/disk_usage_eviction/run", {"evict_bytes": 1 << 40})["Finished"]
    assert finished["assumed"]["projected_after"]["freed_bytes"] == 0
    pageserver.failpoint("before-upload-layer-pausable", "off")
    pageserver.wait_recorded(tenant, timeline)
    pageserver.call("PUT", "/v1/disk_usage_eviction/run", {"evict_bytes": 1 << 40})
    pageserver.activate(tenant, timeline)
    assert pageserver.get_page(tenant, timeline, REL.block(0)) == first_page(bucket)


def test_an_index_upload_that_fails_at_first(
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
    tmp_path: Path,
) -> None:
    """I2: nothing is told before the index is there, however often its upload fails."""
    generation = pageserver.attach(tenant)
    pageserver.failpoint("import-job-1-taken-pausable", "pause")
    pageserver.create_import(tenant, timeline, bucket.root)
    pageserver.wait_log("at failpoint import-job-1-taken-pausable")
    pageserver.failpoint("before-upload-index", "return")
    pageserver.failpoint("import-job-1-taken-pausable", "off")
    pageserver.wait_log("index upload failed, will retry", 2)
    assert pageserver.recorded(tenant, timeline) == {"InProgress": None}
    pageserver.failpoint("before-upload-index", "off")
    pageserver.wait_recorded(tenant, timeline)
    RemoteTimeline(tmp_path / "remote", tenant, timeline).assert_index_is_durable(generation)
