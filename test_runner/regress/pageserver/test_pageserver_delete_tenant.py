"""Deleting tenants: every shard, and whatever is still on its way to remote storage."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from reattach.api.bucket import LISTINGS, Operation
from reattach.api.ids import TenantId, TenantShardId
from reattach.fixtures.bucket import BucketServer, Faults
from test_runner.regress.pageserver.remote_files import bucket_keys
from test_runner.regress.pageserver.subject import Subject

PREFIX = "some/prefix/tenants"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def shards_of(tenant: TenantShardId, count: int) -> list[TenantShardId]:
    return [TenantShardId(tenant.tenant_id, number, count) for number in range(count)]


def neighbours(tenant: TenantShardId) -> list[TenantShardId]:
    """Tenants whose names come right before and after it."""
    number = int(str(tenant.tenant_id), 16)
    return [TenantShardId.unsharded(TenantId(f"{number + step:032x}")) for step in (-1, 1)]


def stored_tenants(remote: Path) -> set[str]:
    return {path.name for path in (remote / "tenants").iterdir()} if (remote / "tenants").exists() else set()


def test_shard(subject: Subject, tmp_path: Path) -> None:
    """I9 for one shard: others of the tenant stay."""
    pageserver = subject.pageserver
    shard, other = shards_of(subject.tenant, 2)
    for each in (shard, other):
        pageserver.attach(each)
        pageserver.import_and_activate(each, subject.timeline, subject.bucket.root)
    pageserver.call("DELETE", f"/v1/tenant/{shard}")
    pageserver.call("GET", f"/v1/tenant/{shard}", expect=404)
    assert stored_tenants(tmp_path / "remote") == {str(other)}
    assert not (pageserver.workdir / "tenants" / str(shard)).exists()
    pageserver.call("GET", f"/v1/tenant/{other}/timeline/{subject.timeline}")


@pytest.mark.parametrize("attached", [True, False])
def test_unsharded_id_stands_for_all_shards(subject: Subject, tmp_path: Path, attached: bool) -> None:
    """I9: so the controller deletes a tenant, at any pageserver, when it is attached nowhere."""
    pageserver = subject.pageserver
    shards = shards_of(subject.tenant, 4)
    for each in (*shards, *neighbours(subject.tenant)):
        pageserver.attach(each)
        pageserver.import_and_activate(each, subject.timeline, subject.bucket.root)
    assert stored_tenants(tmp_path / "remote") >= set(map(str, shards))
    if not attached:
        for shard in shards:
            pageserver.detach(shard)
    pageserver.call("DELETE", f"/v1/tenant/{subject.tenant}")
    for shard in shards:
        pageserver.call("GET", f"/v1/tenant/{shard}", expect=404)
    assert stored_tenants(tmp_path / "remote") == set(map(str, neighbours(subject.tenant)))


def test_unsharded_id_stands_for_all_shards_on_s3(
    s3_subject: Subject, bucket_server: BucketServer, remote_bucket: str
) -> None:
    """I9"""
    pageserver = s3_subject.pageserver
    for each in (*shards_of(s3_subject.tenant, 2), *neighbours(s3_subject.tenant)):
        pageserver.attach(each)
        pageserver.import_and_activate(each, s3_subject.timeline, s3_subject.bucket.root)
        pageserver.detach(each)
    pageserver.call("DELETE", f"/v1/tenant/{s3_subject.tenant}")
    left = {
        key.removeprefix(f"{PREFIX}/").partition("/")[0] for key in bucket_keys(bucket_server, remote_bucket)
    }
    assert left == set(map(str, neighbours(s3_subject.tenant)))


@pytest.mark.parametrize("what", ["tenant-manifest", "timelines/{}/index_part", "timelines/{}/0", "heatmap"])
def test_nothing_comes_late(
    s3_subject: Subject,
    bucket_server: BucketServer,
    bucket_faults: Faults,
    pool: ThreadPoolExecutor,
    remote_bucket: str,
    what: str,
) -> None:
    """I9: S3 writes what it has received, whoever waits for the answer; so the deletion comes after that."""
    pageserver = s3_subject.pageserver
    shard = shards_of(s3_subject.tenant, 2)[0]
    uploads = bucket_faults.on(
        Operation.PUT_OBJECT,
        bucket=remote_bucket,
        prefix=f"{PREFIX}/{shard}/{what.format(s3_subject.timeline)}",
        times=1,
    )
    gate = uploads.hold(abandoned=True)
    pageserver.attach(shard)
    if what == "heatmap":
        pool.submit(pageserver.request, "POST", f"/v1/tenant/{shard}/heatmap_upload")
    elif what != "tenant-manifest":
        pool.submit(pageserver.create_import, shard, s3_subject.timeline, s3_subject.bucket.root)
    gate.wait_until_held()
    deletion = pool.submit(pageserver.call, "DELETE", f"/v1/tenant/{s3_subject.tenant}")
    pageserver.wait_log("waiting for the answer to a change that is under way")
    with pytest.raises(TimeoutError):
        deletion.result(0.3)
    gate.release()
    deletion.result(20)
    assert bucket_keys(bucket_server, remote_bucket) == set()


def test_nobody_attaches_meanwhile(
    s3_subject: Subject,
    bucket_server: BucketServer,
    bucket_faults: Faults,
    pool: ThreadPoolExecutor,
    remote_bucket: str,
) -> None:
    """I9: an attachment would write what the deletion does not see any more."""
    pageserver = s3_subject.pageserver
    known, new = shards_of(s3_subject.tenant, 2)
    pageserver.attach(known)
    pageserver.import_and_activate(known, s3_subject.timeline, s3_subject.bucket.root)
    with bucket_faults.gate(LISTINGS, bucket=remote_bucket, prefix=PREFIX, client="pageserver") as gate:
        deletion = pool.submit(pageserver.call, "DELETE", f"/v1/tenant/{s3_subject.tenant}")
        gate.wait_until_held()
        for shard in (known, new):
            pageserver.location(shard, "AttachedSingle", 7, expect=409)
        pageserver.call("DELETE", f"/v1/tenant/{s3_subject.tenant}", expect=409)
    deletion.result(20)
    assert bucket_keys(bucket_server, remote_bucket) == set()
    pageserver.attach(new)


@pytest.mark.parametrize("operation", [Operation.LIST_OBJECTS_V2, Operation.DELETE_OBJECTS])
def test_restarted_in_the_middle(
    s3_subject: Subject,
    bucket_server: BucketServer,
    bucket_faults: Faults,
    pool: ThreadPoolExecutor,
    remote_bucket: str,
    operation: Operation,
) -> None:
    """I9, I10: whoever asks again has it completed."""
    pageserver = s3_subject.pageserver
    shard = shards_of(s3_subject.tenant, 2)[1]
    pageserver.attach(shard)
    pageserver.import_and_activate(shard, s3_subject.timeline, s3_subject.bucket.root)
    gate = bucket_faults.gate(operation, bucket=remote_bucket, client="pageserver")
    deletion = pool.submit(pageserver.call, "DELETE", f"/v1/tenant/{s3_subject.tenant}")
    gate.wait_until_held()
    pageserver.controller.detach(str(shard))
    pageserver.kill()
    with pytest.raises(requests.ConnectionError):
        deletion.result(20)
    gate.open()
    assert bucket_keys(bucket_server, remote_bucket)
    pageserver.start(bucket_server.environment("pageserver"))
    pageserver.call("DELETE", f"/v1/tenant/{s3_subject.tenant}")
    assert bucket_keys(bucket_server, remote_bucket) == set()
