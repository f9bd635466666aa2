"""Every combination of what `test_import_resume*.py` tries one by one.

Not part of `-k import_resume`, which somebody waits for.
"""

from __future__ import annotations

import pytest

from reattach.fixtures.control_plane import ControlPlane
from reattach.fixtures.imports.bucket import ImportBucket
from reattach.fixtures.imports.handle import BEFORE_DONE, BEFORE_FIRST_JOB, Point, after_job
from reattach.fixtures.neon_fixtures import NeonEnvBuilder, PageserverImportConfig
from test_runner.regress.interruptions import INTERRUPTIONS, Interruption, pageserver_killed

SHARD_COUNTS = [0, 2, 4, 8]
JOB_SIZE = 512 * 1024
LARGER_THAN_THE_PLAN = 1000

AFTER_6 = after_job(6)


@pytest.mark.parametrize("shard_count", SHARD_COUNTS, ids=lambda count: f"{count}_shards")
@pytest.mark.parametrize("interrupt", INTERRUPTIONS, ids=lambda function: function.__name__)
def test_interruptions_and_shards(
    neon_env_builder: NeonEnvBuilder,
    import_bucket: ImportBucket,
    control_plane: ControlPlane,
    interrupt: Interruption,
    shard_count: int,
) -> None:
    """I5, I8."""
    _interrupt_and_resume(
        neon_env_builder, import_bucket, control_plane, interrupt=interrupt, shard_count=shard_count
    )


@pytest.mark.parametrize("shard_count", [0, 4], ids=lambda count: f"{count}_shards")
@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("threshold", [1, 4, LARGER_THAN_THE_PLAN])
def test_settings_and_shards(
    neon_env_builder: NeonEnvBuilder,
    import_bucket: ImportBucket,
    control_plane: ControlPlane,
    threshold: int,
    concurrency: int,
    shard_count: int,
) -> None:
    """I5: what runs twice is bounded by threshold and window."""
    _interrupt_and_resume(
        neon_env_builder,
        import_bucket,
        control_plane,
        shard_count=shard_count,
        threshold=threshold,
        concurrency=concurrency,
    )


@pytest.mark.parametrize("interrupt", INTERRUPTIONS, ids=lambda function: function.__name__)
@pytest.mark.parametrize(
    "point",
    [BEFORE_FIRST_JOB, after_job(3), after_job(8), BEFORE_DONE],
)
def test_points_and_interruptions(
    neon_env_builder: NeonEnvBuilder,
    import_bucket: ImportBucket,
    control_plane: ControlPlane,
    point: Point,
    interrupt: Interruption,
) -> None:
    """I5: with several shards, each at its own place."""
    _interrupt_and_resume(
        neon_env_builder, import_bucket, control_plane, interrupt=interrupt, point=point, shard_count=4
    )


def _interrupt_and_resume(
    neon_env_builder: NeonEnvBuilder,
    bucket: ImportBucket,
    control_plane: ControlPlane,
    *,
    interrupt: Interruption = pageserver_killed,
    point: Point = AFTER_6,
    shard_count: int,
    threshold: int = 4,
    concurrency: int = 4,
) -> None:
    # Each of eight shards has enough jobs only if they are smaller.
    job_size = JOB_SIZE if shard_count < 8 else JOB_SIZE // 4
    neon_env_builder.pageserver_import_config = PageserverImportConfig(concurrency, job_size, threshold)
    env = neon_env_builder.init_start()
    timeline = env.start_import(bucket, shard_count=shard_count, hold=point)

    timeline.wait_at(point)
    stopped_at = timeline.progress()
    assert {shard.completed % threshold for shard in stopped_at} == {0}
    timeline.assert_durable()
    interrupt(timeline)

    window = 2 * concurrency
    run = timeline.wait_done()
    run.assert_resumed_from(stopped_at)
    assert {shard.interruptions for shard in run.shards} == {1}
    for shard in run.shards:
        assert len(shard.ran_twice) < threshold + window
    assert control_plane.import_complete(timeline) == [None]
    timeline.assert_equals(bucket)
