"""Points at which a test holds an import: what they promise holds now, for each import and shard."""

from __future__ import annotations

import time

import pytest

from reattach.fixtures.control_plane import ControlPlane
from reattach.fixtures.env.problems import EnvironmentFailure
from reattach.fixtures.imports.bucket import ImportBucket
from reattach.fixtures.imports.handle import BEFORE_DONE, BEFORE_FIRST_JOB, ImportFailed, after_job
from reattach.fixtures.neon_fixtures import NeonEnvBuilder, PageserverImportConfig
from test_runner.regress.interruptions import JOB_SIZE, stopped_import


@pytest.fixture(autouse=True)
def _small_jobs(neon_env_builder: NeonEnvBuilder) -> None:
    neon_env_builder.pageserver_import_config = PageserverImportConfig(4, JOB_SIZE, 4)


def test_two_imports_stand_at_different_jobs(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    env = neon_env_builder.init_start()
    early = env.start_import(import_bucket, hold=after_job(3), branch_name="early")
    late = env.start_import(import_bucket, hold=after_job(9), branch_name="late")
    early.wait_at(after_job(3))
    late.wait_at(after_job(9))
    assert [early.progress()[0].completed, late.progress()[0].completed] == [0, 8]
    late.release_all()
    late.wait_done()
    assert early.progress()[0].completed == 0
    early.release_all()
    early.wait_done()


@pytest.mark.parametrize("job", [8, 10])
def test_whoever_waits_for_a_job_has_its_checkpoint_too(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket, job: int
) -> None:
    """I5: what was waited for is not done again."""
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket, shard_count=2, hold=after_job(11))
    timeline.wait_for_job(job)
    assert [shard.completed >= 8 for shard in timeline.progress()] == [True, True]
    timeline.wait_for_checkpoint(8)
    timeline.release_all()
    timeline.wait_done()
    assert [shard.recorded for shard in timeline.run().shards] == [
        shard.passes[-1].checkpoints[-1] for shard in timeline.run().shards
    ]


def test_one_shard_stands_and_the_other_goes_on(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    timeline = stopped_import(neon_env_builder, import_bucket, BEFORE_FIRST_JOB, shard_count=2)
    timeline.hold(after_job(6), 1)
    timeline.release(BEFORE_FIRST_JOB)
    timeline.wait_at(after_job(6))
    deadline = time.monotonic() + 20
    while not timeline.progress()[0].done and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [timeline.progress()[0].done, timeline.progress()[1].completed] == [True, 4]
    timeline.release_all()
    timeline.wait_done()


def test_nobody_stands_where_the_point_was_passed_before(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    """`wait_at` says what is, not what was."""
    timeline = stopped_import(neon_env_builder, import_bucket, after_job(4))
    timeline.hold(BEFORE_DONE)
    timeline.release(after_job(4))
    timeline.wait_at(BEFORE_DONE)
    with pytest.raises(ValueError, match="nothing is held after job 4"):
        timeline.wait_at(after_job(4))
    timeline.release_all()
    timeline.wait_done()


def test_held_holds(neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket) -> None:
    timeline = stopped_import(neon_env_builder, import_bucket, BEFORE_FIRST_JOB)
    timeline.hold(after_job(8))
    timeline.release(BEFORE_FIRST_JOB)
    with timeline.held(after_job(8)):
        before = timeline.progress()
        time.sleep(0.3)  # nothing may change: there is nothing to wait for
        assert timeline.progress() == before and before[0].completed == 8
    timeline.wait_done()


def test_a_finished_import_is_not_waited_for(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket, control_plane: ControlPlane
) -> None:
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket)
    timeline.wait_done()
    timeline.hold(after_job(6))
    began = time.monotonic()
    with pytest.raises(ImportFailed, match="the import ended while waiting for every shard to stand"):
        timeline.wait_at(after_job(6))
    assert time.monotonic() - began < 10
    env.world.clear_steps()


@pytest.mark.parametrize("point", ["no-such-point", "after_job"])
def test_no_such_point(neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket, point: str) -> None:
    env = neon_env_builder.init_start()
    with pytest.raises(ValueError, match="is no point of an import; the nearest is"):
        env.start_import(import_bucket, hold=point)  # type: ignore[arg-type]


def test_a_point_that_nobody_came_to_fails_the_test(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    timeline = stopped_import(neon_env_builder, import_bucket, after_job(8))
    timeline.release_all()
    timeline.hold(BEFORE_FIRST_JOB)
    timeline.wait_done()
    with pytest.raises(EnvironmentFailure, match=r"armed, and never happened: .*get status 0000"):
        neon_env_builder.close(body_failed=False)


def test_another_import_is_not_touched_by_a_release(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    """Each import has its own points, also after `release_all` of another."""
    env = neon_env_builder.init_start()
    one = env.start_import(import_bucket, hold=after_job(6), branch_name="one")
    other = env.start_import(import_bucket, hold=after_job(6), branch_name="other")
    one.wait_at(after_job(6))
    other.wait_at(after_job(6))
    one.release_all()
    one.wait_done()
    other.wait_at(after_job(6))
    other.release_all()
    other.wait_done()


def test_release_all_releases_what_a_restart_has_set(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    timeline = stopped_import(neon_env_builder, import_bucket, after_job(6))
    timeline.restart_killed(hold=after_job(10))
    timeline.wait_at(after_job(10))
    timeline.release_all()
    timeline.wait_done(timeout=20)
