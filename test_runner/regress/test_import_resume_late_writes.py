"""A pageserver that stood still while its tenant moved and its timeline was deleted goes on (I9)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reattach.api.effects import Phase
from reattach.api.plan import Step
from reattach.fixtures.imports.bucket import ImportBucket
from reattach.fixtures.imports.handle import ImportTimeline
from reattach.fixtures.neon_fixtures import NeonEnv, NeonEnvBuilder
from reattach.fixtures.pageserver.server import NeonPageserver
from reattach.fixtures.remote_storage import S3Storage
from reattach.fixtures.skips import xfail_on_real
from reattach.fixtures.waiting import WaitTimeout, wait_until

INDEX = Step(at="pageserver_* > s3: put index * +3", when=Phase.BEFORE, do=("hold",))


@contextmanager
def standing_still(pageserver: NeonPageserver) -> Iterator[None]:
    pageserver.pause()
    try:
        yield
    finally:
        if pageserver.running:
            pageserver.resume()


def wait_clean(env: NeonEnv, timeline: ImportTimeline) -> None:
    """I9: in the end nothing is below the timeline, and nothing was wrong on the way."""
    storage = env.pageserver_remote_storage
    assert isinstance(storage, S3Storage)

    def clean() -> None:
        for pageserver in env.pageservers:
            if pageserver.running:
                pageserver.http_client().deletion_queue_flush(execute=True)
        wrong = [str(one) for one in timeline.judgement().failures]
        assert not wrong, wrong[0]
        assert storage.timeline_objects(timeline.shards[0], timeline.timeline_id) == []

    wait_until(clean, name="what came late to go", timeout=15)


def assert_moved(timeline: ImportTimeline, late: NeonPageserver) -> None:
    assert timeline.pageserver_of(0) is not late


def assert_written(env: NeonEnv, timeline: ImportTimeline) -> None:
    storage = env.pageserver_remote_storage
    assert isinstance(storage, S3Storage)
    assert storage.timeline_objects(timeline.shards[0], timeline.timeline_id)


@xfail_on_real(
    "pageserver", reason="what comes late stays, for its scrubber", raises=(WaitTimeout, AssertionError)
)
@pytest.mark.parametrize("end", ["woken", "killed"])
def test_import_resume_late_writes(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket, end: str
) -> None:
    """I9: what an attachment writes that was given up is not taken up again, and goes: with that attachment,
    or if it dies before it hears of it, with the next one.
    """
    neon_env_builder.num_pageservers = 2
    neon_env_builder.storage_controller_config = {"max_offline": "1s"}
    env = neon_env_builder.init_start()
    for service in env.services:
        service.allowed_errors.append(".*")
    env.world.add_steps([INDEX])
    timeline = env.start_import(import_bucket)
    (held,) = env.world.steps(happened=1, timeout=20).steps
    late = timeline.pageserver_of(0)

    with standing_still(late):
        wait_until(lambda: assert_moved(timeline, late), timeout=30)
        timeline.delete()
        env.world.release(held.id)
        wait_until(lambda: assert_written(env, timeline), name="the late index", timeout=20)
        if end == "killed":
            late.kill()
            timeline.pageserver_of(0).restart()

    wait_clean(env, timeline)
