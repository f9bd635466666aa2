"""An import that was interrupted goes on after its last checkpoint, whatever interrupted it.

Each test stops every shard at a known job, interrupts it, and asserts where it resumed, what ran twice, that
the control plane was told once, and that every page equals the source.
"""

from __future__ import annotations

import pytest

from reattach.fixtures.imports.bucket import ImportBucket
from reattach.fixtures.imports.handle import after_job
from reattach.fixtures.neon_fixtures import NeonEnvBuilder
from test_runner.regress.interruptions import (
    Interruption,
    detach_by_attach_hook,
    detach_by_policy,
    ends_whole,
    pageserver_killed,
    pageserver_terminated,
    stopped_import,
)


@pytest.mark.parametrize(
    ("interrupt", "shard_count"),
    [
        (pageserver_killed, 0),
        (detach_by_policy, 0),
        (detach_by_attach_hook, 4),
        (pageserver_terminated, 8),
    ],
    ids=lambda value: f"{value}_shards" if isinstance(value, int) else value.__name__,
)
def test_import_resume(
    neon_env_builder: NeonEnvBuilder,
    import_bucket: ImportBucket,
    interrupt: Interruption,
    shard_count: int,
) -> None:
    """I5, I8: the import resumes after the recorded job, and comes out whole."""
    # Between two checkpoints. Eight shards share what fills about thirty jobs, so some have only a few.
    stopped_after, threshold = (3, 2) if shard_count == 8 else (6, 4)
    timeline = stopped_import(
        neon_env_builder,
        import_bucket,
        after_job(stopped_after),
        shard_count=shard_count,
        threshold=threshold,
    )
    stopped_at = timeline.progress()
    assert {shard.completed for shard in stopped_at} == {stopped_after - stopped_after % threshold}
    timeline.assert_durable()
    interrupt(timeline)

    run = ends_whole(timeline, stopped_at)
    assert {shard.interruptions for shard in run.shards} == {1}
