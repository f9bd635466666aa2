"""Ways to interrupt an import that is held at a job, and what is to come of it afterwards."""

from __future__ import annotations

from collections.abc import Callable

from reattach.fixtures.imports.bucket import ImportBucket
from reattach.fixtures.imports.handle import ImportTimeline, Point
from reattach.fixtures.imports.run import ImportProgress, ImportRun
from reattach.fixtures.neon_fixtures import NeonEnvBuilder, PageserverImportConfig

Interruption = Callable[[ImportTimeline], None]

JOB_SIZE = 512 * 1024
"""Bytes: the source of an import is then about twenty-four jobs."""


def stopped_import(
    builder: NeonEnvBuilder,
    bucket: ImportBucket,
    at: Point,
    *,
    shard_count: int = 0,
    concurrency: int = 4,
    threshold: int = 4,
) -> ImportTimeline:
    """An import of small jobs in a new environment, every shard of which stands there.

    threshold: of how many jobs a checkpoint is.
    """
    builder.pageserver_import_config = PageserverImportConfig(concurrency, JOB_SIZE, threshold)
    timeline = builder.init_start().start_import(bucket, shard_count=shard_count, hold=at)
    timeline.wait_at(at)
    return timeline


def detach_by_policy(timeline: ImportTimeline) -> None:
    timeline.detach()
    timeline.release_all()
    timeline.attach()


def detach_by_attach_hook(timeline: ImportTimeline) -> None:
    timeline.detach_by_hook()
    timeline.release_all()
    timeline.attach_by_hook()


def pageserver_killed(timeline: ImportTimeline) -> None:
    timeline.kill().start()


def pageserver_terminated(timeline: ImportTimeline) -> None:
    timeline.terminate().start()


def ends_whole(
    timeline: ImportTimeline, stopped_at: ImportProgress | None = None, timeout: float = 60
) -> ImportRun:
    """The import ends, the control plane is told once and without an error, and every byte is the source's.

    stopped_at: what was recorded at the last interruption; it has gone on right after that.
    """
    run = timeline.wait_done(timeout)
    if stopped_at is not None:
        run.assert_resumed_from(stopped_at)
    told = timeline.env.control_plane.import_complete(timeline)
    assert told == [None], f"I7 told: the control plane was told {told}, expected once, without an error"
    timeline.assert_equals(timeline.bucket)
    return run
