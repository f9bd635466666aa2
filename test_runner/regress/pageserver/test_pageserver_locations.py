"""location_config in every mode, one change at a time, and standing by."""

from __future__ import annotations

import threading

import pytest
import requests

from reattach.api.controller import TENANT_CONFIG_KEYS
from reattach.api.ids import TenantShardId
from reattach.fixtures.processes import wait_for
from test_runner.regress.pageserver.one_pageserver import PageserverProcess
from test_runner.regress.pageserver.subject import REL, Subject


def slug(pageserver: PageserverProcess, tenant: TenantShardId) -> str:
    return str(pageserver.call("GET", f"/v1/tenant/{tenant}")["state"]["slug"])


def test_answers(pageserver: PageserverProcess, tenant: TenantShardId) -> None:
    shard = TenantShardId(tenant.tenant_id, 1, 2)
    answer = pageserver.location(shard, "AttachedSingle", 1)
    assert answer == {"shards": [{"shard_id": str(shard), "node_id": 1}], "stripe_size": 2048}
    answer = pageserver.location(tenant, "AttachedSingle", 1)
    assert answer == {"shards": [{"shard_id": str(tenant), "node_id": 1}], "stripe_size": None}
    assert pageserver.location(tenant, "Secondary") == {"shards": [], "stripe_size": None}
    assert pageserver.location(tenant, "Detached") is None
    assert pageserver.location(tenant, "Detached") is None


def test_what_is_seen_of_it(pageserver: PageserverProcess, tenant: TenantShardId) -> None:
    pageserver.location(tenant, "AttachedMulti", 7, tenant_conf={"gc_period": "1h", "pitr_interval": None})
    conf = pageserver.call("GET", f"/v1/location_config/{tenant}")
    assert conf == {
        "mode": "AttachedMulti",
        "generation": 7,
        "secondary_conf": None,
        "shard_number": 0,
        "shard_count": 0,
        "shard_stripe_size": 2048,
        "tenant_conf": {"gc_period": "1h"},
    }
    assert pageserver.call("GET", "/v1/location_config") == {"tenant_shards": [[str(tenant), conf]]}
    info = pageserver.call("GET", f"/v1/tenant/{tenant}")
    assert (info["generation"], info["timelines"], info["walredo"]) == (7, [], None)
    assert info["attachment_status"] == {"slug": "attached"}
    (listed,) = pageserver.call("GET", "/v1/tenant")
    assert (listed["id"], listed["current_physical_size"]) == (str(tenant), None)
    assert pageserver.call("GET", f"/v1/tenant/{tenant}/config")["tenant_specific_overrides"] == {
        "gc_period": "1h"
    }
    pageserver.location(tenant, "Secondary")
    assert pageserver.call("GET", "/v1/tenant") == []
    assert pageserver.call("GET", f"/v1/location_config/{tenant}")["secondary_conf"] == {"warm": True}
    pageserver.call("GET", f"/v1/tenant/{tenant}", expect=404)
    pageserver.detach(tenant)
    pageserver.call("GET", f"/v1/location_config/{tenant}", expect=404)


def test_generations_only_rise(pageserver: PageserverProcess, tenant: TenantShardId) -> None:
    """I4: an attachment in an older generation is refused."""
    pageserver.location(tenant, "AttachedSingle", 5)
    refused = pageserver.location(tenant, "AttachedSingle", 4, expect=400)
    assert "Generation 00000004 is less than existing 00000005" in refused["msg"]
    pageserver.location(tenant, "AttachedStale", 5)
    pageserver.location(tenant, "AttachedSingle", 6)
    assert pageserver.call("GET", f"/v1/tenant/{tenant}")["generation"] == 6
    missing = pageserver.location(tenant, "AttachedSingle", None, expect=400)
    assert "Generation must be set when attaching" in missing["msg"]
    pageserver.location(tenant, "Secondary", 6, expect=400)


def test_one_change_at_a_time(pageserver: PageserverProcess, tenant: TenantShardId) -> None:
    """While one client changes a location, others are told so, and readers to come back."""
    pageserver.failpoint("tenant-config-before-write", "sleep(1000)")
    first = threading.Thread(target=pageserver.location, args=(tenant, "AttachedSingle", 1))
    first.start()
    wait_for(
        lambda: pageserver.request("GET", f"/v1/location_config/{tenant}").json() is None,
        what="a slot that is being changed",
        timeout=10,
    )
    conflict = pageserver.location(tenant, "AttachedSingle", 2, expect=409)
    assert conflict["msg"] == "Conflict: Tenant is already being modified"
    pageserver.call("GET", f"/v1/tenant/{tenant}", expect=503)
    first.join()
    assert slug(pageserver, tenant) == "Active"


def test_a_config_that_cannot_be_written(pageserver: PageserverProcess, tenant: TenantShardId) -> None:
    """What could not be made durable did not happen, and can be asked for again."""
    pageserver.location(tenant, "AttachedSingle", 1)
    pageserver.failpoint("tenant-config-before-write", "1*return")
    pageserver.location(tenant, "AttachedMulti", 1, expect=500)
    assert pageserver.call("GET", f"/v1/location_config/{tenant}")["mode"] == "AttachedSingle"
    pageserver.failpoint("tenant-config-before-write", "1*return")
    pageserver.location(tenant, "AttachedSingle", 2, expect=500)
    pageserver.location(tenant, "AttachedSingle", 2)
    assert slug(pageserver, tenant) == "Active"


@pytest.mark.parametrize("failpoint", ["attach-before-activate", "storage-sync-list-remote-timelines"])
def test_broken_and_mended(pageserver: PageserverProcess, tenant: TenantShardId, failpoint: str) -> None:
    """I10: an attachment that failed is tried again by the same request, and by a restart."""
    pageserver.failpoint(failpoint, "return")
    pageserver.location(tenant, "AttachedSingle", 1)
    assert slug(pageserver, tenant) == "Broken"
    broken = pageserver.call("GET", f"/v1/tenant/{tenant}/timeline", expect=500)
    assert "tenant is broken" in broken["msg"]
    assert pageserver.metric("pageserver_broken_tenants_count") == 1
    pageserver.failpoint(failpoint, "off")
    pageserver.location(tenant, "AttachedSingle", 1)
    assert slug(pageserver, tenant) == "Active"


def test_detach_while_attaching(pageserver: PageserverProcess, tenant: TenantShardId) -> None:
    pageserver.failpoint("attach-before-activate-sleep", "return(60000)")
    pageserver.location(tenant, "AttachedSingle", 1)
    pageserver.wait_log("attach-before-activate-sleep.*sleeping")
    pageserver.detach(tenant)
    pageserver.failpoint("attach-before-activate-sleep", "off")
    pageserver.location(tenant, "AttachedSingle", 2)
    assert slug(pageserver, tenant) == "Active"


def test_tenant_conf_survives_and_can_be_patched(
    pageserver: PageserverProcess, tenant: TenantShardId
) -> None:
    pageserver.attach(tenant)
    body = {"tenant_id": str(tenant), "gc_period": "1h", "pitr_interval": "7 days"}
    pageserver.call("PUT", "/v1/tenant/config", body)
    pageserver.call("PATCH", "/v1/tenant/config", {"tenant_id": str(tenant), "gc_period": None, "x": "\x7f"})
    pageserver.kill()
    pageserver.start()
    conf = pageserver.call("GET", f"/v1/tenant/{tenant}/config")
    assert conf["tenant_specific_overrides"] == {"pitr_interval": "7 days", "x": "\x7f"}


def test_the_effective_config_has_every_key(pageserver: PageserverProcess, tenant: TenantShardId) -> None:
    pageserver.configure(tenant_config={"lsn_lease_length": "0s", "gc_horizon": 5})
    pageserver.stop()
    pageserver.start()
    pageserver.attach(tenant)
    answer = pageserver.call("GET", f"/v1/tenant/{tenant}/config")
    assert answer["tenant_specific_overrides"] == {}
    defaults = answer["effective_config"]
    # The one key that the real pageserver tells only if it is set.
    assert defaults.keys() == TENANT_CONFIG_KEYS - {"basebackup_cache_enabled"}
    assert (defaults["lsn_lease_length"], defaults["gc_horizon"]) == ("0s", 5)
    assert (defaults["pitr_interval"], defaults["sampling_ratio"]) == ("7days", None)
    own = {"gc_horizon": 6, "sampling_ratio": {"numerator": 0, "denominator": 10}}
    pageserver.location(
        tenant, "AttachedSingle", 1, tenant_conf=own | {"gc_period": None, "basebackup_cache_enabled": True}
    )
    effective = pageserver.call("GET", f"/v1/tenant/{tenant}/config")["effective_config"]
    assert effective == defaults | own | {"basebackup_cache_enabled": True}


def test_detach_waits_for_garbage_collection(subject: Subject) -> None:
    pageserver = subject.pageserver
    subject.attach()
    subject.import_and_activate()
    name = "gc_iteration_internal_after_getting_gc_timelines"
    pageserver.failpoint(name, "return(1500)")
    answers: list[dict[str, int]] = []
    path = f"{subject.path}/do_gc"
    thread = threading.Thread(target=lambda: answers.append(pageserver.call("PUT", path, {"gc_horizon": 0})))
    thread.start()
    pageserver.wait_log(f"{name}.*sleeping")
    requests.put(
        f"http://127.0.0.1:{pageserver.http_port}/v1/tenant/{subject.tenant}/location_config",
        json={"mode": "Detached", "tenant_conf": {}},
        timeout=30,
    ).raise_for_status()
    assert pageserver.log_lines(f"{name}.*sleep done"), "the tenant was gone while gc was at work"
    thread.join(10)
    assert [answer["layers_removed"] for answer in answers] == [0]


def test_secondary_becomes_warm(subject: Subject, second: PageserverProcess) -> None:
    """A migration with a warm destination: nothing is downloaded any more when it takes over."""
    empty = {
        "heatmap_mtime": None,
        "layers_downloaded": 0,
        "layers_total": 0,
        "bytes_downloaded": 0,
        "bytes_total": 0,
    }
    generation = subject.attach()
    subject.import_and_activate()
    second.call("POST", f"/v1/tenant/{subject.tenant}/secondary/download", expect=404)
    second.location(subject.tenant, "Secondary")
    assert second.call("POST", f"/v1/tenant/{subject.tenant}/secondary/download") == empty
    subject.pageserver.location(subject.tenant, "AttachedStale", generation, query="?flush_ms=10000")
    progress = second.call("POST", f"/v1/tenant/{subject.tenant}/secondary/download?wait_ms=20000")
    assert progress["layers_downloaded"] == progress["layers_total"] > 1
    assert progress["bytes_downloaded"] == progress["bytes_total"] > 0
    assert second.call("GET", f"/v1/tenant/{subject.tenant}/secondary/status") == progress
    second.attach(subject.tenant, "AttachedMulti")
    layers = second.call("GET", f"{subject.path}/layer")["historic_layers"]
    assert not any(layer["remote"] for layer in layers)
    subject.pageserver.location(subject.tenant, "Secondary")
    page = second.get_page(subject.tenant, subject.timeline, REL.block(3))
    assert page == subject.source_page(3)
    assert second.metric("pageserver_ondemand_downloads_total") == 0


def test_secondary_keeps_its_files_over_a_restart(subject: Subject) -> None:
    pageserver = subject.pageserver
    subject.attach()
    subject.import_and_activate()
    pageserver.call("POST", f"/v1/tenant/{subject.tenant}/heatmap_upload")
    pageserver.location(subject.tenant, "Secondary")
    pageserver.controller.attached[str(subject.tenant)] = (1, "Secondary")
    pageserver.kill()
    pageserver.start()
    progress = pageserver.call("POST", f"/v1/tenant/{subject.tenant}/secondary/download")
    assert progress["layers_downloaded"] == progress["layers_total"] > 1
    files = {path.name: path.stat().st_ino for path in subject.directory.iterdir()}
    pageserver.call("POST", f"/v1/tenant/{subject.tenant}/secondary/download")
    again = {path.name: path.stat().st_ino for path in subject.directory.iterdir()}
    assert files == again


def test_location_changes_in_any_order(subject: Subject) -> None:
    """I10: through all modes and restarts, whenever it is attached it can be read."""
    pageserver = subject.pageserver
    generation = subject.attach()
    subject.import_and_activate()
    page = subject.source_page(0)
    for mode in (
        "AttachedMulti",
        "Secondary",
        "AttachedStale",
        "Detached",
        "AttachedSingle",
        "AttachedMulti",
    ):
        if mode.startswith("Attached"):
            generation = subject.attach(mode)
            assert subject.get_page(REL.block(0)) == page
        else:
            pageserver.location(subject.tenant, mode)
            pageserver.controller.attached[str(subject.tenant)] = (generation, mode)
        if mode != "Detached":
            pageserver.kill()
            pageserver.start()
            if mode.startswith("Attached"):
                assert subject.get_page(REL.block(0)) == page
                generation = pageserver.call("GET", f"/v1/tenant/{subject.tenant}")["generation"]
    assert pageserver.log_lines(r"\s(ERROR|WARN)\s") == []
