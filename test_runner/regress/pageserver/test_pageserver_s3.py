"""Remote storage and import bucket in S3, through its failures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.bucket.faults import Faults
from fixtures.bucket.server import BucketServer
from fixtures.ports import PortDistributor
from fixtures.processes import Launcher
from reattach.api.bucket import Operation
from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.key import BLCKSZ, RelTag
from test_runner.regress.pageserver.one_pageserver import PageserverProcess
from test_runner.regress.pageserver.scripted_controller import FakeController
from test_runner.unit.import_pgdata.data_directory import DataDirectory

REL = RelTag(1663, 5, 16384, 0)


@pytest.fixture
def remote(bucket_server: BucketServer, tenant: TenantShardId) -> str:
    """A bucket of this test's own."""
    name = f"remote-{tenant.tenant_id}"
    bucket_server.create_bucket(name)
    return name


@pytest.fixture
def pageserver(
    launcher: Launcher,
    port_distributor: PortDistributor,
    controller: FakeController,
    bucket_server: BucketServer,
    remote: str,
    tmp_path: Path,
) -> Iterator[PageserverProcess]:
    """Its remote storage is below `some/prefix` of the bucket `remote`."""
    server = PageserverProcess.create(
        launcher,
        controller,
        port_distributor,
        tmp_path,
        remote_storage={
            "bucket_name": remote,
            "bucket_region": bucket_server.region,
            "prefix_in_bucket": "some/prefix/",
            "endpoint": bucket_server.endpoint,
            "timeout": "5s",
        },
    )
    yield server.start(bucket_server.environment("pageserver"))
    server.kill()
    server.session.close()


def keys(bucket_server: BucketServer, bucket: str) -> set[str]:
    listing = bucket_server.client().list_objects_v2(Bucket=bucket)
    return {each["Key"] for each in listing.get("Contents", [])}


def test_import_and_restart_from_an_empty_disk(
    pageserver: PageserverProcess,
    bucket_server: BucketServer,
    bucket: DataDirectory,
    remote: str,
    tenant: TenantShardId,
    timeline: TimelineId,
) -> None:
    """I8, I9 on S3: what was imported is read back from there, and deleted there."""
    pageserver.attach(tenant)
    pageserver.import_and_activate(tenant, timeline, bucket.root)
    pageserver.kill()
    pageserver.wipe_disk()
    pageserver.start(bucket_server.environment("pageserver"))
    pageserver.attach(tenant)
    page = pageserver.get_page(tenant, timeline, REL.block(69))
    assert page == bucket.read("pgdata/base/5/16384")[69 * BLCKSZ :]
    prefix = f"some/prefix/tenants/{tenant}/"
    stored = keys(bucket_server, remote)
    assert all(key.startswith(prefix) for key in stored)
    index = json.loads(bucket_server.get(remote, f"{prefix}timelines/{timeline}/index_part.json-00000001"))
    for name, layer in index["layer_metadata"].items():
        assert f"{prefix}timelines/{timeline}/{name}-{layer['generation']:08x}" in stored
    pageserver.call("DELETE", f"/v1/tenant/{tenant}")
    assert keys(bucket_server, remote) == set()


def test_a_storage_that_fails_now_and_then(
    pageserver: PageserverProcess,
    bucket_faults: Faults,
    bucket: DataDirectory,
    remote: str,
    tenant: TenantShardId,
    timeline: TimelineId,
) -> None:
    """I10: throttling, errors and connections that are cut off delay an import, they do not end it."""
    bucket_faults.on(Operation.PUT_OBJECT, bucket=remote, nth=2).slow_down()
    bucket_faults.on(Operation.PUT_OBJECT, bucket=remote, nth=4).status(500)
    bucket_faults.on(Operation.PUT_OBJECT, bucket=remote, nth=6).reset()
    bucket_faults.on(Operation.PUT_OBJECT, bucket=remote, nth=8).status(403)
    bucket_faults.on(Operation.PUT_OBJECT, bucket=remote, nth=10).lose_response()
    pageserver.attach(tenant)
    pageserver.import_and_activate(tenant, timeline, bucket.root)
    page = pageserver.get_page(tenant, timeline, REL.block(1))
    assert page == bucket.read("pgdata/base/5/16384")[BLCKSZ : 2 * BLCKSZ]


def test_a_download_that_is_cut_off(
    pageserver: PageserverProcess,
    bucket_faults: Faults,
    bucket: DataDirectory,
    remote: str,
    tenant: TenantShardId,
    timeline: TimelineId,
) -> None:
    """I8: half a layer is never served."""
    pageserver.attach(tenant)
    pageserver.import_and_activate(tenant, timeline, bucket.root)
    pageserver.call("PUT", "/v1/disk_usage_eviction/run", {"evict_bytes": 1 << 40})
    bucket_faults.on(Operation.GET_OBJECT, bucket=remote, nth=1).truncate(10_000)
    page = pageserver.get_page(tenant, timeline, REL.block(0))
    assert page == bucket.read("pgdata/base/5/16384")[:BLCKSZ]


def test_a_layer_that_changed_in_remote_storage(
    pageserver: PageserverProcess,
    bucket_faults: Faults,
    bucket: DataDirectory,
    remote: str,
    tenant: TenantShardId,
    timeline: TimelineId,
) -> None:
    """I8: bytes that are not those of the index's checksum are an error, not a page."""
    pageserver.attach(tenant)
    pageserver.import_and_activate(tenant, timeline, bucket.root)
    pageserver.call("PUT", "/v1/disk_usage_eviction/run", {"evict_bytes": 1 << 40})
    path = f"/v1/tenant/{tenant}/timeline/{timeline}/getpage?key={REL.block(0)}"
    bucket_faults.on(Operation.GET_OBJECT, bucket=remote, nth=1).change_content(offset=9000)
    assert "checksum" in pageserver.call("GET", path, expect=500)["msg"]
    assert bytes(pageserver.call("GET", path)["page"]) == bucket.read("pgdata/base/5/16384")[:BLCKSZ]


def test_import_from_a_bucket(
    pageserver: PageserverProcess,
    bucket_server: BucketServer,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
) -> None:
    source = f"source-{tenant.tenant_id}"
    bucket_server.create_bucket(source)
    bucket_server.preload(bucket.root, source, "project")
    pageserver.kill()
    pageserver.configure(import_pgdata_aws_endpoint_url=bucket_server.endpoint)
    pageserver.start(bucket_server.environment("pageserver"))
    pageserver.attach(tenant)
    location = {"AwsS3": {"region": bucket_server.region, "bucket": source, "key": "project/"}}
    body = {
        "new_timeline_id": str(timeline),
        "import_pgdata": {"location": location, "idempotency_key": "key"},
    }
    pageserver.call("POST", f"/v1/tenant/{tenant}/timeline", body, expect=201)
    pageserver.controller.expect_import(str(tenant), str(timeline))
    pageserver.wait_recorded(tenant, timeline)
    pageserver.activate(tenant, timeline)
    page = pageserver.get_page(tenant, timeline, REL.block(0))
    assert page == bucket.read("pgdata/base/5/16384")[:BLCKSZ]


def test_a_layer_in_parts(
    launcher: Launcher,
    bucket_server: BucketServer,
    pageserver: PageserverProcess,
    bucket: DataDirectory,
    remote: str,
    tenant: TenantShardId,
    timeline: TimelineId,
) -> None:
    """A layer larger than one part of an upload comes back whole."""
    bucket.write_pages("pgdata/base/5/20000", 5000)
    rel = RelTag(1663, 5, 20000, 0)
    pageserver.attach(tenant)
    pageserver.import_and_activate(tenant, timeline, bucket.root)
    pageserver.call("PUT", "/v1/disk_usage_eviction/run", {"evict_bytes": 1 << 40})
    source = bucket.read("pgdata/base/5/20000")
    for block in (0, 2500, 4999):
        page = pageserver.get_page(tenant, timeline, rel.block(block))
        assert page == source[block * BLCKSZ : (block + 1) * BLCKSZ]
    assert len(bucket_server.log.where(operation=Operation.UPLOAD_PART, bucket=remote)) > 1
