"""Shards, thresholds, concurrency, places: what an import is set to does not change that it resumes."""

from __future__ import annotations

import pytest

from reattach.fixtures.imports.bucket import ImportBucket, LocalImportBucket, S3ImportBucket
from reattach.fixtures.imports.handle import after_job
from reattach.fixtures.judge.neon.case import look_at
from reattach.fixtures.neon_fixtures import NeonEnvBuilder
from reattach.fixtures.remote_storage import RemoteStorageKind, available_remote_storages
from test_runner.regress.interruptions import ends_whole, stopped_import

LARGER_THAN_THE_PLAN = 1000


@pytest.mark.parametrize(
    ("threshold", "concurrency", "shard_count"),
    [
        (1, 1, 0),
        (LARGER_THAN_THE_PLAN, 4, 4),
    ],
)
def test_import_resume_thresholds(
    neon_env_builder: NeonEnvBuilder,
    import_bucket: ImportBucket,
    threshold: int,
    concurrency: int,
    shard_count: int,
) -> None:
    """I5: what runs twice is bounded by threshold and window."""
    timeline = stopped_import(
        neon_env_builder,
        import_bucket,
        after_job(6),
        shard_count=shard_count,
        concurrency=concurrency,
        threshold=threshold,
    )
    stopped_at = timeline.progress()
    assert {shard.completed for shard in stopped_at} == {6 - 6 % threshold}
    timeline.kill().start()

    window = 2 * concurrency
    run = ends_whole(timeline, stopped_at)
    for shard in run.shards:
        assert len(shard.ran_twice) < threshold + window


@pytest.mark.parametrize("storage", available_remote_storages())
@pytest.mark.parametrize("location", ["s3", "local_fs"])
def test_import_resume_places(
    neon_env_builder: NeonEnvBuilder,
    import_bucket: ImportBucket,
    local_import_bucket: LocalImportBucket,
    location: str,
    storage: RemoteStorageKind,
) -> None:
    """I5, I8: from either kind of bucket into either kind of remote storage, from an empty disk."""
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


def test_import_resume_one_of_four_pageservers_killed(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    """I5, I10: with every shard on a pageserver of its own, only the killed one's shard resumes."""
    neon_env_builder.num_pageservers = 4
    timeline = stopped_import(neon_env_builder, import_bucket, after_job(6), shard_count=4)
    assert len({timeline.pageserver_of(number).id for number in range(4)}) == 4
    stopped_at = timeline.progress()
    timeline.kill(2).start()
    timeline.release_all()

    run = ends_whole(timeline)
    assert [shard.interruptions for shard in run.shards] == [0, 0, 1, 0]
    assert run.shards[2].resumed_from == stopped_at[2].completed
    assert run.shards[2].first_job == stopped_at[2].completed + 1


def test_import_resume_reads_nothing_again(
    neon_env_builder: NeonEnvBuilder, import_bucket: S3ImportBucket
) -> None:
    """I5: by what was read from the bucket, nothing of what was checkpointed is read a second time."""
    timeline = stopped_import(neon_env_builder, import_bucket, after_job(8), concurrency=1)
    timeline.restart_killed()

    run = ends_whole(timeline)
    assert run.shards[0].resumed_from == 8
    case = look_at(timeline.env.world.history())
    (signs,) = case.signs.values()
    first, second = ({s.job for s in signs if s.generation == g and not s.wrote} for g in (1, 2))
    assert first >= {1, 2, 8}, f"the first pass was seen to read for jobs {sorted(first)}"
    assert min(second) == 9, f"I5: read again for job {min(second)} after the resume from 8"
