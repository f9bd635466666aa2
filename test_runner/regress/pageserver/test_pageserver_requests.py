"""Requests that make no sense: 4xx with a reason, never a 500, and the next request is served."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reattach.api.ids import TenantShardId, TimelineId
from test_runner.regress.pageserver.one_pageserver import PageserverProcess

TENANT = TenantShardId.parse("12" * 16)
OTHER = "34" * 16
TIMELINE = TimelineId("56" * 16)
KEY = "00" * 18
LOCATION: dict[str, Any] = {"mode": "AttachedSingle", "generation": 1, "tenant_conf": {}}
IMPORT: dict[str, Any] = {
    "location": {"LocalFs": {"path": "/nowhere"}},
    "idempotency_key": "key",
}


@pytest.fixture
def attached(pageserver: PageserverProcess) -> PageserverProcess:
    pageserver.attach(TENANT)
    return pageserver


def refused(pageserver: PageserverProcess, status: int, method: str, path: str, **options: Any) -> str:
    """The message of a refusal. The process is alive and well after it."""
    response = pageserver.request(method, path, **options)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    message = response.json()["msg"]
    assert isinstance(message, str)
    assert message
    assert pageserver.call("GET", "/v1/status") == {"id": 1}
    return message


def test_bad_ids_and_parameters(attached: PageserverProcess) -> None:
    for path, status in [
        ("/v1/tenant/xyz", 400),
        (f"/v1/tenant/{TENANT}-01", 400),
        (f"/v1/tenant/{TENANT}-0502", 400),
        (f"/v1/tenant/{OTHER}", 404),
        (f"/v1/tenant/{TENANT}/timeline/xyz", 400),
        (f"/v1/tenant/{TENANT}/timeline/{TIMELINE}", 404),
        (f"/v1/tenant/{TENANT}/timeline?include-image-consistent-lsn=maybe", 400),
        (f"/v1/tenant/{TENANT}?activate=1", 400),
        (f"/v1/tenant/{TENANT}/timeline/{TIMELINE}/getpage", 400),
        (f"/v1/tenant/{TENANT}/timeline/{TIMELINE}/getpage?key=12", 400),
        (f"/v1/tenant/{TENANT}/timeline/{TIMELINE}/getpage?key={KEY}&lsn=5", 400),
        (f"/v1/tenant/{TENANT}/timeline/{TIMELINE}/getpage?key={KEY}&key={'11' * 18}", 400),
        (f"/v1/tenant/{TENANT}/timeline/{TIMELINE}/getpage?key={KEY}", 404),
        (f"/v1/tenant/{TENANT}/timeline/{TIMELINE}/layer", 404),
        (f"/v1/tenant/{TENANT}/secondary/status", 404),
        ("/v1/location_config/xyz", 400),
        ("/v1/nothing", 404),
        ("/", 404),
    ]:
        refused(attached, status, "GET", path)
    assert refused(attached, 404, "GET", "/v1/nothing") == "page not found"
    assert refused(attached, 404, "DELETE", "/v1/status") == "page not found"
    assert refused(attached, 404, "GET", f"/v1/tenant/{OTHER}") == f"NotFound: tenant {OTHER}"
    missing = refused(attached, 404, "GET", f"/v1/tenant/{TENANT}/timeline/{TIMELINE}")
    assert missing == f"NotFound: Timeline {TENANT}/{TIMELINE} was not found"


def test_garbage_collection_of_what_is_not_there(attached: PageserverProcess) -> None:
    path = f"/v1/tenant/{TENANT}/timeline/{TIMELINE}/do_gc"
    assert refused(attached, 404, "PUT", path, json={"gc_horizon": 0}) == "NotFound: Timeline not found"
    other = refused(attached, 404, "PUT", path.replace(str(TENANT), OTHER), json={"gc_horizon": 0})
    assert other == f"NotFound: tenant {OTHER}"
    for body in (
        b"",
        b"{",
        b"[]",
        b'{"gc_horizon": -1}',
        b'{"gc_horizon": "1"}',
        b'{"gc_horizon": 1e30}',
        b'{"gc_horizon": 18446744073709551616}',
    ):
        refused(attached, 400, "PUT", path, data=body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"5",
        b"\xff\xfe",
        b"{}",
        json.dumps(LOCATION | {"mode": "Sideways"}).encode(),
        json.dumps(LOCATION | {"tenant_conf": None}).encode(),
        json.dumps(LOCATION | {"generation": "1"}).encode(),
        json.dumps(LOCATION | {"generation": None}).encode(),
        json.dumps(LOCATION | {"generation": -1}).encode(),
        json.dumps(LOCATION | {"generation": 1 << 40}).encode(),
        json.dumps(LOCATION | {"unknown": 1}).encode(),
        json.dumps(LOCATION | {"shard_number": 1, "shard_count": 2, "shard_stripe_size": 8}).encode(),
        json.dumps({"mode": "AttachedSingle", "generation": 1}).encode(),
    ],
)
def test_bad_locations(pageserver: PageserverProcess, body: bytes) -> None:
    refused(pageserver, 400, "PUT", f"/v1/tenant/{OTHER}/location_config", data=body)
    assert pageserver.call("GET", "/v1/location_config") == {"tenant_shards": []}


def test_location_parameters(pageserver: PageserverProcess) -> None:
    path = f"/v1/tenant/{OTHER}/location_config"
    for query in ("flush_ms=soon", "flush_ms=-5", "lazy=perhaps", "lazy=true&lazy=false"):
        refused(pageserver, 400, "PUT", f"{path}?{query}", json=LOCATION)
    refused(pageserver, 400, "PUT", "/v1/tenant/xyz/location_config", json=LOCATION)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"new_timeline_id": "xyz", "import_pgdata": IMPORT}, 400),
        ({"new_timeline_id": str(TIMELINE), "import_pgdata": {}}, 400),
        ({"new_timeline_id": str(TIMELINE), "import_pgdata": IMPORT | {"location": {"Ftp": {}}}}, 400),
        ({"new_timeline_id": str(TIMELINE), "import_pgdata": IMPORT | {"location": "LocalFs"}}, 400),
        ({"new_timeline_id": str(TIMELINE), "import_pgdata": IMPORT | {"location": {"AwsS3": {}}}}, 400),
        ({"new_timeline_id": str(TIMELINE), "import_pgdata": IMPORT | {"idempotency_key": 5}}, 400),
        ({"new_timeline_id": str(TIMELINE)}, 406),
        ({"new_timeline_id": str(TIMELINE), "pg_version": 16}, 406),
        ({"new_timeline_id": str(TIMELINE), "ancestor_timeline_id": OTHER}, 406),
    ],
)
def test_bad_timelines(attached: PageserverProcess, body: dict[str, Any], status: int) -> None:
    message = refused(attached, status, "POST", f"/v1/tenant/{TENANT}/timeline", json=body)
    if status == 406:
        assert message.startswith("this pageserver has no WAL path")
    assert attached.call("GET", f"/v1/tenant/{TENANT}/timeline") == []
    assert list((attached.workdir / "tenants" / str(TENANT) / "timelines").iterdir()) == []


def test_timeline_of_a_tenant_that_is_not_here(pageserver: PageserverProcess) -> None:
    body = {"new_timeline_id": str(TIMELINE), "import_pgdata": IMPORT}
    refused(pageserver, 404, "POST", f"/v1/tenant/{OTHER}/timeline", json=body)
    refused(pageserver, 412, "DELETE", f"/v1/tenant/{OTHER}/timeline/{TIMELINE}")
    refused(pageserver, 404, "PUT", f"/v1/tenant/{OTHER}/timeline/{TIMELINE}/activate_post_import")
    refused(pageserver, 404, "POST", f"/v1/tenant/{OTHER}/reset")


def test_activate_of_nothing_disturbs_nobody(attached: PageserverProcess) -> None:
    path = f"/v1/tenant/{TENANT}/timeline/{TIMELINE}/activate_post_import"
    refused(attached, 404, "PUT", path)
    refused(attached, 400, "PUT", f"{path}?timeline_activate_timeout_ms=soon")
    refused(attached, 400, "PUT", f"{path}?timeline_activate_timeout_ms=-1")
    assert len(attached.log_lines("activation of .* is complete")) == 1


def test_huge_bodies(attached: PageserverProcess) -> None:
    body = json.dumps([{"name": "x", "actions": "off" * (2 << 20)}])
    assert len(body) > 4 << 20
    refused(attached, 413, "PUT", "/v1/failpoints", data=body)


def test_failpoints(attached: PageserverProcess) -> None:
    body = [{"name": "api-503", "actions": "1*return"}, {"name": "api-500", "actions": "explode"}]
    message = refused_once(attached, body)
    assert "Failed to configure failpoints" in message
    refused(attached, 400, "PUT", "/v1/failpoints", json=[{"name": "api-500"}])
    body = [{"name": "before-upload-indexes", "actions": "pause"}]
    assert "did you mean 'before-upload-index'" in refused(attached, 400, "PUT", "/v1/failpoints", json=body)
    attached.failpoint("api-500", "1*return")
    assert attached.request("GET", "/v1/status").status_code == 500


def refused_once(pageserver: PageserverProcess, body: object) -> str:
    """The first of two failpoints stays set although the second is bad."""
    response = pageserver.request("PUT", "/v1/failpoints", json=body)
    assert response.status_code == 400
    assert pageserver.request("GET", "/v1/status").status_code == 503
    assert pageserver.request("GET", "/v1/status").status_code == 200
    return str(response.json()["msg"])


def test_other_bodies(attached: PageserverProcess) -> None:
    for method, path, body in [
        ("PUT", "/v1/disk_usage_eviction/run", {}),
        ("PUT", "/v1/disk_usage_eviction/run", {"evict_bytes": -1}),
        ("PUT", "/v1/disk_usage_eviction/run", {"evict_bytes": "all"}),
        ("PUT", "/v1/deletion_queue/flush?execute=maybe", None),
        ("PUT", "/v1/tenant/config", {}),
        ("PUT", "/v1/tenant/config", {"tenant_id": 5}),
        ("PATCH", "/v1/tenant/config", {"tenant_id": "xyz"}),
        ("PATCH", "/v1/tenant/config", [1]),
        ("POST", f"/v1/tenant/{TENANT}/wait_lsn", {}),
    ]:
        refused(attached, 400, method, path, json=body)


def test_utilization(attached: PageserverProcess) -> None:
    seen = attached.call("GET", "/v1/utilization")
    assert (seen["shard_count"], seen["max_shard_count"], seen["disk_usable_pct"]) == (1, 2500, 80)
    assert seen["free_space_bytes"] > 0
    assert seen["utilization_score"] == 1_000_000 // 2500
    attached.failpoint("get-utilization-http-handler", "1*return")
    attached.call("GET", "/v1/utilization", expect=503)
