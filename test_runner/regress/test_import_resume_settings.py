"""Shards, thresholds, concurrency, places: what an import is set to does not change that it resumes."""

from __future__ import annotations

import pytest

from reattach.fixtures.imports.bucket import ImportBucket, LocalImportBucket
from reattach.fixtures.imports.handle import after_job
from reattach.fixtures.neon_fixtures import NeonEnvBuilder
from reattach.fixtures.remote_storage import RemoteStorageKind, s3_storage
from test_runner.regress.interruptions import ends_whole, stopped_import

LARGER_THAN_THE_PLAN = 1000


@pytest.mark.parametrize(("threshold", "concurrency"), [(1, 1), (LARGER_THAN_THE_PLAN, 4)])
def test_import_resume_thresholds(
    neon_env_builder: NeonEnvBuilder,
    import_bucket: ImportBucket,
    threshold: int,
    concurrency: int,
) -> None:
    """I5: what runs twice is bounded by threshold and window."""
    timeline = stopped_import(
        neon_env_builder, import_bucket, after_job(6), concurrency=concurrency, threshold=threshold
    )
    stopped_at = timeline.progress()
    assert {shard.completed for shard in stopped_at} == {6 - 6 % threshold}
    timeline.kill().start()

    window = 2 * concurrency
    run = ends_whole(timeline, stopped_at)
    for shard in run.shards:
        assert len(shard.ran_twice) < threshold + window


@pytest.mark.parametrize(
    ("location", "storage"), [("s3", RemoteStorageKind.LOCAL_FS), ("local_fs", s3_storage())]
)
def test_import_resume_places(
    neon_env_builder: NeonEnvBuilder,
    import_bucket: ImportBucket,
    local_import_bucket: LocalImportBucket,
    location: str,
    storage: RemoteStorageKind,
) -> None:
    """I5, I8: from a local bucket, and into local storage; what all other tests have is S3 on both sides."""
    bucket = local_import_bucket if location == "local_fs" else import_bucket
    neon_env_builder.enable_pageserver_remote_storage(storage)
    timeline = stopped_import(neon_env_builder, bucket, after_job(6))
    stopped_at = timeline.progress()
    timeline.detach()
    timeline.release_all()
    timeline.attach()

    ends_whole(timeline, stopped_at)


def test_import_resume_after_migration(neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket) -> None:
    """I4, I5: a shard that moves to another pageserver goes on there, and the old one is not listened to."""
    neon_env_builder.num_pageservers = 2
    timeline = stopped_import(neon_env_builder, import_bucket, after_job(6))
    stopped_at = timeline.progress()
    origin = timeline.pageserver_of(0)
    destination = next(one for one in timeline.env.pageservers if one.id != origin.id)
    timeline.migrate(0, destination)

    run = ends_whole(timeline, stopped_at)
    assert [one.node_id for one in run.shards[0].passes] == [origin.id, destination.id]


def test_import_resume_one_of_two_pageservers_killed(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    """I5, I10: with every shard on a pageserver of its own, only the killed one's shard resumes."""
    neon_env_builder.num_pageservers = 2
    timeline = stopped_import(neon_env_builder, import_bucket, after_job(6), shard_count=2)
    assert timeline.pageserver_of(0) is not timeline.pageserver_of(1)
    stopped_at = timeline.progress()
    timeline.kill(1).start()
    timeline.release_all()

    run = ends_whole(timeline)
    assert [shard.interruptions for shard in run.shards] == [0, 1]
    assert run.shards[1].resumed_from == stopped_at[1].completed
    assert run.shards[1].first_job == stopped_at[1].completed + 1
