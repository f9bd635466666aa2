"""I8: `assert_equals` compares with what the bucket holds at that moment, in both kinds of bucket."""

from __future__ import annotations

import pytest

from reattach.api.bucket import Operation
from reattach.api.key import BLCKSZ
from reattach.fixtures.bucket import BucketServer, Faults
from reattach.fixtures.compare import DataDiffers
from reattach.fixtures.imports.bucket import ImportBucket, S3ImportBucket
from reattach.fixtures.imports.handle import ImportTimeline
from reattach.fixtures.neon_fixtures import NeonEnv


@pytest.fixture(params=["s3", "local_fs"])
def bucket(request: pytest.FixtureRequest, import_bucket: S3ImportBucket) -> ImportBucket:
    if request.param == "s3":
        return import_bucket
    found: ImportBucket = request.getfixturevalue("local_import_bucket")
    return found


def imported(env: NeonEnv, bucket: ImportBucket, shard_count: int = 0) -> ImportTimeline:
    timeline = env.start_import(bucket, shard_count=shard_count)
    timeline.wait_done()
    return timeline


def changed(content: bytes, offset: int) -> bytes:
    return content[:offset] + bytes([content[offset] ^ 0xFF]) + content[offset + 1 :]


@pytest.mark.parametrize("shard_count", [0, 3], ids=lambda count: f"{count}_shards")
def test_an_object_that_changed_after_the_import(
    neon_simple_env: NeonEnv, bucket: ImportBucket, shard_count: int
) -> None:
    timeline = imported(neon_simple_env, bucket, shard_count)
    timeline.assert_equals(bucket)
    name = bucket.largest_relation_file()
    content = bucket.get(name)
    bucket.put(name, changed(content, BLCKSZ + 5))
    now, then = content[BLCKSZ + 5] ^ 0xFF, content[BLCKSZ + 5]
    with pytest.raises(DataDiffers) as failure:
        timeline.assert_equals(bucket)
    text = str(failure.value)
    assert f"{name.removeprefix('pgdata/')}: block 1 differs first at byte 5" in text
    assert f"the bucket has 0x{now:02X}, the import 0x{then:02X}" in text


def test_an_object_that_was_deleted_after_the_import(neon_simple_env: NeonEnv, bucket: ImportBucket) -> None:
    timeline = imported(neon_simple_env, bucket)
    name = bucket.largest_relation_file()
    bucket.delete(name)
    with pytest.raises(DataDiffers, match=rf"{name.removeprefix('pgdata/')}: the bucket has no such file"):
        timeline.assert_equals(bucket)


def test_an_object_that_changed_before_the_import(neon_simple_env: NeonEnv, bucket: ImportBucket) -> None:
    """What was imported is what the bucket held, not what it was filled with."""
    name = bucket.largest_relation_file()
    bucket.put(name, changed(bucket.get(name), 3 * BLCKSZ + 100))
    imported(neon_simple_env, bucket).assert_equals(bucket)


def test_an_object_that_was_added_before_the_import(neon_simple_env: NeonEnv, bucket: ImportBucket) -> None:
    bucket.put("pgdata/base/5/4294967295", bytes(3 * BLCKSZ))
    imported(neon_simple_env, bucket).assert_equals(bucket)
    assert "base/5/4294967295" in set(bucket.files())


def test_another_client_counts(
    neon_simple_env: NeonEnv, import_bucket: S3ImportBucket, bucket_server: BucketServer
) -> None:
    """The bucket is asked; it is not remembered what the test did through the library."""
    timeline = imported(neon_simple_env, import_bucket)
    name = import_bucket.largest_relation_file()
    bucket_server.client().delete_object(Bucket=import_bucket.bucket, Key=f"{import_bucket.prefix}/{name}")
    with pytest.raises(DataDiffers, match="the bucket has no such file"):
        timeline.assert_equals(import_bucket)


def test_faults_do_not_touch_the_comparison(
    neon_simple_env: NeonEnv, import_bucket: S3ImportBucket, bucket_faults: Faults
) -> None:
    """What the bucket holds is not what a spoilt answer says, and comparing makes no fault fire."""
    name = import_bucket.largest_relation_file()
    import_bucket.put(name, import_bucket.get(name))  # so that it is not read from the file it was made of
    timeline = imported(neon_simple_env, import_bucket)
    fault = bucket_faults.on(Operation.GET_OBJECT, optional=True).change_content()
    listing = bucket_faults.on(Operation.LIST_OBJECTS_V2, optional=True).stale_listing(hide="")
    asked = len(import_bucket.requests())
    timeline.assert_equals(import_bucket)
    assert (fault.matched, listing.matched) == (0, 0)
    assert len(import_bucket.requests()) == asked, "and the test's request log has nothing of it"
