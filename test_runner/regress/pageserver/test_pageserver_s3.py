"""Remote storage and import bucket in S3, through its failures."""

from __future__ import annotations

import json

from fixtures.bucket.faults import Faults
from fixtures.bucket.server import BucketServer
from reattach.api.bucket import Operation
from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.key import BLCKSZ, RelTag
from test_runner.regress.pageserver.one_pageserver import PageserverProcess
from test_runner.regress.pageserver.remote_files import bucket_keys
from test_runner.unit.import_pgdata.data_directory import DataDirectory

REL = RelTag(1663, 5, 16384, 0)


def test_import_and_restart_from_an_empty_disk(
    s3_pageserver: PageserverProcess,
    bucket_server: BucketServer,
    bucket: DataDirectory,
    remote_bucket: str,
    tenant: TenantShardId,
    timeline: TimelineId,
) -> None:
    """I8, I9 on S3: what was imported is read back from there, and deleted there."""
    s3_pageserver.attach(tenant)
    s3_pageserver.import_and_activate(tenant, timeline, bucket.root)
    s3_pageserver.kill()
    s3_pageserver.wipe_disk()
    s3_pageserver.start(bucket_server.environment("pageserver"))
    s3_pageserver.attach(tenant)
    page = s3_pageserver.get_page(tenant, timeline, REL.block(69))
    assert page == bucket.read("pgdata/base/5/16384")[69 * BLCKSZ :]
    prefix = f"some/prefix/tenants/{tenant}/"
    stored = bucket_keys(bucket_server, remote_bucket)
    assert all(key.startswith(prefix) for key in stored)
    index = json.loads(
        bucket_server.get(remote_bucket, f"{prefix}timelines/{timeline}/index_part.json-00000001")
    )
    for name, layer in index["layer_metadata"].items():
        assert f"{prefix}timelines/{timeline}/{name}-{layer['generation']:08x}" in stored
    s3_pageserver.call("DELETE", f"/v1/tenant/{tenant}")
    assert bucket_keys(bucket_server, remote_bucket) == set()


def test_a_storage_that_fails_now_and_then(
    s3_pageserver: PageserverProcess,
    bucket_faults: Faults,
    bucket: DataDirectory,
    remote_bucket: str,
    tenant: TenantShardId,
    timeline: TimelineId,
) -> None:
    """I10: throttling, errors and connections that are cut off delay an import, they do not end it."""
    bucket_faults.on(Operation.PUT_OBJECT, bucket=remote_bucket, nth=2).slow_down()
    bucket_faults.on(Operation.PUT_OBJECT, bucket=remote_bucket, nth=4).status(500)
    bucket_faults.on(Operation.PUT_OBJECT, bucket=remote_bucket, nth=6).reset()
    bucket_faults.on(Operation.PUT_OBJECT, bucket=remote_bucket, nth=8).status(403)
    bucket_faults.on(Operation.PUT_OBJECT, bucket=remote_bucket, nth=10).lose_response()
    s3_pageserver.attach(tenant)
    s3_pageserver.import_and_activate(tenant, timeline, bucket.root)
    page = s3_pageserver.get_page(tenant, timeline, REL.block(1))
    assert page == bucket.read("pgdata/base/5/16384")[BLCKSZ : 2 * BLCKSZ]


def test_a_download_that_is_cut_off(
    s3_pageserver: PageserverProcess,
    bucket_faults: Faults,
    bucket: DataDirectory,
    remote_bucket: str,
    tenant: TenantShardId,
    timeline: TimelineId,
) -> None:
    """I8: half a layer is never served."""
    s3_pageserver.attach(tenant)
    s3_pageserver.import_and_activate(tenant, timeline, bucket.root)
    s3_pageserver.call("PUT", "/v1/disk_usage_eviction/run", {"evict_bytes": 1 << 40})
    bucket_faults.on(Operation.GET_OBJECT, bucket=remote_bucket, nth=1).truncate(10_000)
    page = s3_pageserver.get_page(tenant, timeline, REL.block(0))
    assert page == bucket.read("pgdata/base/5/16384")[:BLCKSZ]


def test_a_layer_that_changed_in_remote_storage(
    s3_pageserver: PageserverProcess,
    bucket_faults: Faults,
    bucket: DataDirectory,
    remote_bucket: str,
    tenant: TenantShardId,
    timeline: TimelineId,
) -> None:
    """I8: bytes that are not those of the index's checksum are an error, not a page."""
    s3_pageserver.attach(tenant)
    s3_pageserver.import_and_activate(tenant, timeline, bucket.root)
    s3_pageserver.call("PUT", "/v1/disk_usage_eviction/run", {"evict_bytes": 1 << 40})
    path = f"/v1/tenant/{tenant}/timeline/{timeline}/getpage?key={REL.block(0)}"
    bucket_faults.on(Operation.GET_OBJECT, bucket=remote_bucket, nth=1).change_content(offset=9000)
    assert "checksum" in s3_pageserver.call("GET", path, expect=500)["msg"]
    assert bytes(s3_pageserver.call("GET", path)["page"]) == bucket.read("pgdata/base/5/16384")[:BLCKSZ]


def test_import_from_a_bucket(
    s3_pageserver: PageserverProcess,
    bucket_server: BucketServer,
    bucket: DataDirectory,
    tenant: TenantShardId,
    timeline: TimelineId,
) -> None:
    source = f"source-{tenant.tenant_id}"
    bucket_server.create_bucket(source)
    bucket_server.preload(bucket.root, source, "project")
    s3_pageserver.kill()
    s3_pageserver.configure(import_pgdata_aws_endpoint_url=bucket_server.endpoint)
    s3_pageserver.start(bucket_server.environment("pageserver"))
    s3_pageserver.attach(tenant)
    location = {"AwsS3": {"region": bucket_server.region, "bucket": source, "key": "project/"}}
    body = {
        "new_timeline_id": str(timeline),
        "import_pgdata": {"location": location, "idempotency_key": "key"},
    }
    s3_pageserver.call("POST", f"/v1/tenant/{tenant}/timeline", body, expect=201)
    s3_pageserver.controller.expect_import(str(tenant), str(timeline))
    s3_pageserver.wait_recorded(tenant, timeline)
    s3_pageserver.activate(tenant, timeline)
    page = s3_pageserver.get_page(tenant, timeline, REL.block(0))
    assert page == bucket.read("pgdata/base/5/16384")[:BLCKSZ]


def test_a_layer_in_parts(
    bucket_server: BucketServer,
    s3_pageserver: PageserverProcess,
    bucket: DataDirectory,
    remote_bucket: str,
    tenant: TenantShardId,
    timeline: TimelineId,
) -> None:
    """A layer larger than one part of an upload comes back whole."""
    bucket.write_pages("pgdata/base/5/20000", 5000)
    rel = RelTag(1663, 5, 20000, 0)
    s3_pageserver.attach(tenant)
    s3_pageserver.import_and_activate(tenant, timeline, bucket.root)
    s3_pageserver.call("PUT", "/v1/disk_usage_eviction/run", {"evict_bytes": 1 << 40})
    source = bucket.read("pgdata/base/5/20000")
    for block in (0, 2500, 4999):
        page = s3_pageserver.get_page(tenant, timeline, rel.block(block))
        assert page == source[block * BLCKSZ : (block + 1) * BLCKSZ]
    assert len(bucket_server.log.where(operation=Operation.UPLOAD_PART, bucket=remote_bucket)) > 1
