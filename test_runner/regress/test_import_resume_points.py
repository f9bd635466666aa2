"""Wherever an import is stopped, it goes on from what was recorded by then."""

from __future__ import annotations

import shutil

import pytest
import requests

from reattach.api.effects import Phase
from reattach.api.plan import Step
from reattach.fixtures.imports.bucket import ImportBucket
from reattach.fixtures.imports.handle import (
    BEFORE_ACTIVATION,
    BEFORE_DONE,
    ImportFailed,
    after_job,
)
from reattach.fixtures.imports.invariants import InvariantViolated
from reattach.fixtures.neon_fixtures import NeonEnvBuilder, PageserverImportConfig
from reattach.fixtures.skips import xfail_on_real
from reattach.fixtures.stores.boto import s3_client
from reattach.fixtures.stores.s3 import S3Storage
from reattach.fixtures.waiting import wait_until
from test_runner.regress.interruptions import JOB_SIZE, ends_whole, stopped_import


def test_import_resume_stopped_after_the_last_job(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    """I5: what is recorded is the last checkpoint before the stop, and the resume begins right after it."""
    timeline = stopped_import(neon_env_builder, import_bucket, BEFORE_DONE, shard_count=4)
    stopped_at = timeline.progress()
    for shard in stopped_at:
        planned = timeline.run().shards[shard.shard.shard_number].jobs
        assert shard.completed == planned - planned % 4, f"shard {shard.shard}"
    timeline.assert_durable()
    timeline.kill().start()

    ends_whole(timeline, stopped_at)


def test_import_resume_checkpoint_is_durable(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    """I2: a checkpoint waits for slow uploads, and the resume needs nothing of the local disk."""
    neon_env_builder.pageserver_import_config = PageserverImportConfig(4, JOB_SIZE, 4)
    env = neon_env_builder.init_start()
    env.pageserver.http_client().configure_failpoints(("before-upload-layer-pausable", "sleep(50)"))
    timeline = env.start_import(import_bucket, shard_count=2, hold=after_job(8))

    timeline.wait_at(after_job(8))
    stopped_at = timeline.progress()
    assert {shard.completed for shard in stopped_at} == {8}
    timeline.assert_durable()
    pageserver = timeline.kill()
    for shard in timeline.shards:
        shutil.rmtree(pageserver.timeline_dir(shard, timeline.timeline_id))
    pageserver.start()

    ends_whole(timeline, stopped_at)


def test_import_resume_both_killed_before_activation(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    """I6, I7, I10: a shard that reported Done runs no job again, and what is left to do then survives in the
    controller's database.
    """
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket, shard_count=2, hold=BEFORE_ACTIVATION)

    timeline.wait_at(BEFORE_ACTIVATION)
    assert all(shard.done for shard in timeline.progress())
    timeline.kill().start()
    timeline.kill_controller().start()

    run = ends_whole(timeline)
    assert run.interruptions == 0, "a shard that was Done was planned again"
    assert run.ran_twice == 0


def test_import_resume_controller_killed_while_jobs_run(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    """I10: jobs go on without the controller; no checkpoint is lost with it and no job runs twice."""
    timeline = stopped_import(neon_env_builder, import_bucket, after_job(6), shard_count=2)
    controller = timeline.kill_controller()
    timeline.release(after_job(6))
    controller.start()

    run = ends_whole(timeline)
    assert run.interruptions == 0, "the pageserver's work was cut short although only the controller died"
    assert run.ran_twice == 0


def test_import_resume_creation_goes_on_without_its_client(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    """I10: the controller dies when it has the row and nobody has heard so; who asked never asks again."""
    env = neon_env_builder.init_start()
    dies = Step(
        at="storage_controller > postgres: commit insert timeline_imports* +1",
        when=Phase.AFTER,
        do=("kill storage_controller",),
    )
    env.world.add_steps([dies])
    with pytest.raises(requests.ConnectionError):
        env.start_import(import_bucket)

    def restarted() -> None:
        """As soon as whoever started it has noticed that it has ended."""
        assert not env.storage_controller.running
        env.storage_controller.start()

    wait_until(restarted)
    timeline = env.imports[-1]
    ends_whole(timeline, timeout=20)


@xfail_on_real(
    "pageserver",
    reason="Done is told without a look at what earlier checkpoints left",
    raises=(ImportFailed, InvariantViolated),
)
def test_import_resume_looks_at_its_layers_before_done(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    """I2: an object of a checkpoint has gone from remote storage meanwhile; Done is not told without it."""
    timeline = stopped_import(neon_env_builder, import_bucket, after_job(8))
    storage = timeline.env.pageserver_remote_storage
    assert isinstance(storage, S3Storage)
    objects = storage.timeline_objects(timeline.shards[0], timeline.timeline_id)
    layer = next(entry.key for entry in objects if "index_part" not in entry.key)
    assert storage.endpoint is not None
    seen = s3_client(
        storage.endpoint, storage.bucket_region, timeline.env.world.add_client("somebody"), "secret"
    )
    seen.delete_object(Bucket=storage.bucket_name, Key=layer)
    timeline.env.pageserver.allowed_errors.append(".*(task failed|is not in remote storage|lacks).*")
    timeline.env.storage_controller.allowed_errors.append(".*Timeline import completed with shard errors.*")
    timeline.release(after_job(8))
    assert layer.rpartition("/")[2][:40] in timeline.wait_failed()
