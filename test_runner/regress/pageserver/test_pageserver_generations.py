"""Attach, detach, attach elsewhere: generations decide what counts."""

from __future__ import annotations

import pytest

from reattach.api.ids import TenantShardId
from reattach.api.key import BLCKSZ
from reattach.fixtures.processes import wait_for
from test_runner.regress.pageserver.one_pageserver import PageserverProcess
from test_runner.regress.pageserver.subject import REL, Subject


def test_the_old_attachment_is_fenced(subject: Subject, second: PageserverProcess) -> None:
    """I4: two nodes import at once; the stale one can neither report nor delete nor overwrite."""
    pageserver = subject.pageserver
    subject.attach()
    subject.import_until("import-job-5-taken-pausable")
    second.failpoint("import-job-7-taken-pausable", "pause")
    generation = second.attach(subject.tenant)
    second.wait_log("at failpoint import-job-7-taken-pausable")
    pageserver.failpoint("import-job-5-taken-pausable", "off")
    pageserver.wait_log("will retry.*412.*Invalid generation", 2)
    completed = subject.recorded()["InProgress"]["V1"]["completed"]
    assert completed == 6
    second.failpoint("import-job-7-taken-pausable", "off")
    second.wait_recorded(subject.tenant, subject.timeline)
    second.activate(subject.tenant, subject.timeline)
    remote = subject.remote
    pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
    second.call("PUT", "/v1/deletion_queue/flush?execute=true")
    remote.assert_index_is_durable(generation)
    subject.detach()
    assert second.get_page(subject.tenant, subject.timeline, REL.block(0)) == subject.source_page(0)


def test_stale_deletions_are_dropped_and_counted(subject: Subject, second: PageserverProcess) -> None:
    """I4: a wipe by an attachment that is not the current one any more deletes nothing."""
    pageserver = subject.pageserver
    subject.attach()
    subject.import_until("import-job-3-taken-pausable")
    remote = subject.remote
    # The controller forgets the progress, so that the next attachment begins with a wipe.
    pageserver.controller.expect_import(str(subject.tenant), str(subject.timeline))
    pageserver.failpoint("import-timeline-pre-execute-pausable", "pause")
    subject.attach()
    pageserver.wait_log("at failpoint import-timeline-pre-execute-pausable", 2)
    before = remote.layers()
    assert before
    second.attach(subject.tenant)
    pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
    assert before <= remote.layers()
    assert pageserver.metric("pageserver_deletion_queue_dropped_total") > 0
    assert pageserver.metric("pageserver_deletion_queue_executed_total") == 0


def test_multi_holds_deletions_back_until_single(subject: Subject) -> None:
    pageserver = subject.pageserver
    subject.attach()
    subject.import_until("import-job-3-taken-pausable")
    pageserver.controller.expect_import(str(subject.tenant), str(subject.timeline))
    pageserver.failpoint("import-job-3-taken-pausable", "off")
    generation = subject.attach("AttachedMulti")
    subject.wait_recorded()
    pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
    assert pageserver.metric("pageserver_deletion_queue_submitted_total") == 0
    pageserver.location(subject.tenant, "AttachedSingle", generation)
    pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
    assert pageserver.metric("pageserver_deletion_queue_executed_total") > 0


def test_single_while_the_attachment_is_under_way(subject: Subject) -> None:
    """I9: deletions are not held back for ever by an attachment that became the only one while it began."""
    pageserver = subject.pageserver
    subject.attach()
    subject.import_until("import-job-3-taken-pausable")
    pageserver.controller.expect_import(str(subject.tenant), str(subject.timeline))
    loaded = "attach-after-timeline-is-loaded-pausable"
    pageserver.failpoint(loaded, "pause")
    generation = pageserver.controller.next_generation(str(subject.tenant), "AttachedMulti")
    pageserver.location(subject.tenant, "AttachedMulti", generation, query="?lazy=true")
    pageserver.wait_log(f"at failpoint {loaded}")
    pageserver.location(subject.tenant, "AttachedSingle", generation, query="?lazy=true")
    pageserver.failpoint("import-job-3-taken-pausable", "off")
    pageserver.failpoint(loaded, "off")
    subject.wait_recorded()
    pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
    assert pageserver.metric("pageserver_deletion_queue_executed_total") > 0


def test_attach_elsewhere_from_an_empty_disk(subject: Subject, second: PageserverProcess) -> None:
    """I8: remote storage is the truth; pages come over when they are asked for."""
    subject.attach()
    subject.import_and_activate()
    second.attach(subject.tenant)
    layers = second.call("GET", f"{subject.path}/layer")["historic_layers"]
    assert layers
    assert all(layer["remote"] for layer in layers)
    assert second.get_page(subject.tenant, subject.timeline, REL.block(0)) == subject.source_page(0)
    assert second.metric("pageserver_ondemand_downloads_total") == 1


@pytest.mark.parametrize("damage", ["gone", "truncated", "flipped"])
def test_damaged_local_layers_come_again(subject: Subject, damage: str) -> None:
    """I8: a page is never served from a local file that is not what was uploaded."""
    pageserver = subject.pageserver
    subject.attach()
    subject.import_and_activate()
    pageserver.kill()
    files = sorted(subject.directory.iterdir())
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
    assert subject.get_page(REL.block(0)) == subject.source_page(0)
    assert pageserver.metric("pageserver_ondemand_downloads_total") == 1


def test_restart_from_an_empty_disk(subject: Subject) -> None:
    pageserver = subject.pageserver
    subject.attach()
    subject.import_and_activate()
    pageserver.kill()
    pageserver.wipe_disk()
    pageserver.start()
    re_attach = pageserver.controller.called("re-attach")
    assert [call.body["empty_local_disk"] for call in re_attach] == [True, True]
    pageserver.call("GET", f"/v1/tenant/{subject.tenant}", expect=404)
    subject.attach()
    assert subject.get_page(REL.block(0)) == subject.source_page(0)


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


def test_unreadable_config_is_made_anew(subject: Subject) -> None:
    """I10: what the controller says is enough to attach."""
    pageserver = subject.pageserver
    subject.attach()
    subject.import_and_activate()
    pageserver.kill()
    (pageserver.workdir / "tenants" / str(subject.tenant) / "config-v1").write_text("[mode")
    pageserver.start()
    assert subject.get_page(REL.block(0)) == subject.source_page(0)


def test_evict_and_download(subject: Subject) -> None:
    pageserver = subject.pageserver
    subject.attach()
    subject.import_and_activate()
    base = f"{subject.path}/layer"
    names = [layer["layer_file_name"] for layer in pageserver.call("GET", base)["historic_layers"]]
    for name in names:
        pageserver.call("DELETE", f"{base}/{name}")
        pageserver.call("DELETE", f"{base}/{name}", expect=304)
    assert list(subject.directory.iterdir()) == []
    pageserver.call("GET", f"{base}/{names[0]}")
    pageserver.call("GET", f"{base}/{names[0]}", expect=304)
    pageserver.call("GET", f"{base}/nonsense", expect=400)
    remote = {
        layer["layer_file_name"]: layer["remote"] for layer in pageserver.call("GET", base)["historic_layers"]
    }
    assert remote == {name: name != names[0] for name in names}
    assert subject.get_page(REL.block(0)) == subject.source_page(0)
    finished = pageserver.call("PUT", "/v1/disk_usage_eviction/run", {"evict_bytes": 1 << 40})["Finished"]
    assert finished["assumed"]["projected_after"]["freed_bytes"] > 0
    assert list(subject.directory.iterdir()) == []
    assert pageserver.call("PUT", "/v1/disk_usage_eviction/run", {"evict_bytes": 0}) == "NoPressure"


def test_eviction_spares_what_is_not_uploaded(subject: Subject) -> None:
    """I8: layers of a running import may be evicted, but not before remote storage has them."""
    pageserver = subject.pageserver
    subject.attach()
    subject.import_until("before-upload-layer-pausable")
    finished = pageserver.call("PUT", "/v1/disk_usage_eviction/run", {"evict_bytes": 1 << 40})["Finished"]
    assert finished["assumed"]["projected_after"]["freed_bytes"] == 0
    pageserver.failpoint("before-upload-layer-pausable", "off")
    subject.wait_recorded()
    pageserver.call("PUT", "/v1/disk_usage_eviction/run", {"evict_bytes": 1 << 40})
    subject.activate()
    assert subject.get_page(REL.block(0)) == subject.source_page(0)


def test_an_index_upload_that_fails_at_first(subject: Subject) -> None:
    """I2: nothing is told before the index is there, however often its upload fails."""
    pageserver = subject.pageserver
    generation = subject.attach()
    subject.import_until("import-job-1-taken-pausable")
    pageserver.failpoint("before-upload-index", "return")
    pageserver.failpoint("import-job-1-taken-pausable", "off")
    pageserver.wait_log("index upload failed, will retry", 2)
    assert subject.recorded() == {"InProgress": None}
    pageserver.failpoint("before-upload-index", "off")
    subject.wait_recorded()
    subject.remote.assert_index_is_durable(generation)
