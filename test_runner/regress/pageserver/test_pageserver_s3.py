"""Remote storage and import bucket in S3, through its failures."""

from __future__ import annotations

import json

from reattach.api.bucket import Operation
from reattach.api.key import BLCKSZ, RelTag
from reattach.fixtures.bucket.faults import Faults
from reattach.fixtures.bucket.server import BucketServer
from test_runner.regress.pageserver.remote_files import bucket_keys
from test_runner.regress.pageserver.subject import REL, Subject


def test_import_and_restart_from_an_empty_disk(
    s3_subject: Subject, bucket_server: BucketServer, remote_bucket: str
) -> None:
    """I8, I9 on S3: what was imported is read back from there, and deleted there."""
    pageserver = s3_subject.pageserver
    s3_subject.attach()
    s3_subject.import_and_activate()
    pageserver.kill()
    pageserver.wipe_disk()
    pageserver.start(bucket_server.environment("pageserver"))
    s3_subject.attach()
    page = s3_subject.get_page(REL.block(69))
    assert page == s3_subject.source_page(69)
    prefix = f"some/prefix/tenants/{s3_subject.tenant}/"
    stored = bucket_keys(bucket_server, remote_bucket)
    assert all(key.startswith(prefix) for key in stored)
    index = json.loads(
        bucket_server.get(remote_bucket, f"{prefix}timelines/{s3_subject.timeline}/index_part.json-00000001")
    )
    for name, layer in index["layer_metadata"].items():
        assert f"{prefix}timelines/{s3_subject.timeline}/{name}-{layer['generation']:08x}" in stored
    pageserver.call("DELETE", f"/v1/tenant/{s3_subject.tenant}")
    assert bucket_keys(bucket_server, remote_bucket) == set()


def test_a_storage_that_fails_now_and_then(
    s3_subject: Subject, bucket_faults: Faults, remote_bucket: str
) -> None:
    """I10: throttling, errors and connections that are cut off delay an import, they do not end it."""
    bucket_faults.on(Operation.PUT_OBJECT, bucket=remote_bucket, nth=2).slow_down()
    bucket_faults.on(Operation.PUT_OBJECT, bucket=remote_bucket, nth=4).status(500)
    bucket_faults.on(Operation.PUT_OBJECT, bucket=remote_bucket, nth=6).reset()
    bucket_faults.on(Operation.PUT_OBJECT, bucket=remote_bucket, nth=8).status(403)
    bucket_faults.on(Operation.PUT_OBJECT, bucket=remote_bucket, nth=10).lose_response()
    s3_subject.attach()
    s3_subject.import_and_activate()
    page = s3_subject.get_page(REL.block(1))
    assert page == s3_subject.source_page(1)


def test_a_download_that_is_cut_off(s3_subject: Subject, bucket_faults: Faults, remote_bucket: str) -> None:
    """I8: half a layer is never served."""
    s3_subject.attach()
    s3_subject.import_and_activate()
    s3_subject.pageserver.call("PUT", "/v1/disk_usage_eviction/run", {"evict_bytes": 1 << 40})
    bucket_faults.on(Operation.GET_OBJECT, bucket=remote_bucket, nth=1).truncate(10_000)
    page = s3_subject.get_page(REL.block(0))
    assert page == s3_subject.source_page(0)


def test_a_layer_that_changed_in_remote_storage(
    s3_subject: Subject, bucket_faults: Faults, remote_bucket: str
) -> None:
    """I8: bytes that are not those of the index's checksum are an error, not a page."""
    pageserver = s3_subject.pageserver
    s3_subject.attach()
    s3_subject.import_and_activate()
    pageserver.call("PUT", "/v1/disk_usage_eviction/run", {"evict_bytes": 1 << 40})
    path = f"{s3_subject.path}/getpage?key={REL.block(0)}"
    bucket_faults.on(Operation.GET_OBJECT, bucket=remote_bucket, nth=1).change_content(offset=9000)
    assert "checksum" in pageserver.call("GET", path, expect=500)["msg"]
    assert bytes(pageserver.call("GET", path)["page"]) == s3_subject.source_page(0)


def test_import_from_a_bucket(s3_subject: Subject, bucket_server: BucketServer) -> None:
    pageserver = s3_subject.pageserver
    source = f"source-{s3_subject.tenant.tenant_id}"
    bucket_server.create_bucket(source)
    bucket_server.preload(s3_subject.bucket.root, source, "project")
    pageserver.kill()
    pageserver.configure(import_pgdata_aws_endpoint_url=bucket_server.endpoint)
    pageserver.start(bucket_server.environment("pageserver"))
    s3_subject.attach()
    location = {"AwsS3": {"region": bucket_server.region, "bucket": source, "key": "project/"}}
    body = {
        "new_timeline_id": str(s3_subject.timeline),
        "import_pgdata": {"location": location, "idempotency_key": "key"},
    }
    pageserver.call("POST", f"/v1/tenant/{s3_subject.tenant}/timeline", body, expect=201)
    pageserver.controller.expect_import(str(s3_subject.tenant), str(s3_subject.timeline))
    s3_subject.wait_recorded()
    s3_subject.activate()
    page = s3_subject.get_page(REL.block(0))
    assert page == s3_subject.source_page(0)


def test_a_layer_in_parts(s3_subject: Subject, bucket_server: BucketServer, remote_bucket: str) -> None:
    """A layer larger than one part of an upload comes back whole."""
    s3_subject.bucket.write_pages("pgdata/base/5/20000", 5000)
    rel = RelTag(1663, 5, 20000, 0)
    s3_subject.attach()
    s3_subject.import_and_activate()
    s3_subject.pageserver.call("PUT", "/v1/disk_usage_eviction/run", {"evict_bytes": 1 << 40})
    source = s3_subject.bucket.read("pgdata/base/5/20000")
    for block in (0, 2500, 4999):
        page = s3_subject.get_page(rel.block(block))
        assert page == source[block * BLCKSZ : (block + 1) * BLCKSZ]
    assert len(bucket_server.log.where(operation=Operation.UPLOAD_PART, bucket=remote_bucket)) > 1
