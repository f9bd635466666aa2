"""Interrupted again and again, an import still converges: many a second resume forgets the first."""

from __future__ import annotations

import requests

from reattach.api import codec
from reattach.api.import_status import Done, Error, InProgress, ShardImportProgress
from reattach.api.upcall import PutImportStatusRequest
from reattach.fixtures.imports.bucket import ImportBucket
from reattach.fixtures.imports.handle import after_job
from reattach.fixtures.neon_fixtures import NeonEnvBuilder
from test_runner.regress.interruptions import JOB_SIZE, ends_whole, stopped_import

STOPS = (5, 6, 6, 9, 13, 17, 21)
"""Jobs, of twenty-four. The second pass and the third are cut short before a checkpoint of their own."""


def test_import_resume_again(neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket) -> None:
    """I3, I5, I10: cut short after a few jobs again and again, it comes to its end: progress never falls, and
    every resume begins after the highest job recorded so far.
    """
    timeline = stopped_import(neon_env_builder, import_bucket, after_job(STOPS[0]), concurrency=2)

    recorded = 0
    for stop, following in zip(STOPS, (*STOPS[1:], None), strict=True):
        timeline.wait_at(after_job(stop))
        stopped_at = timeline.progress()
        timeline.restart_killed(hold=None if following is None else after_job(following))
        assert stopped_at[0].completed == stop - stop % 4, (
            f"I3 forward only: {stopped_at[0].completed} is recorded after job {stop} was taken, "
            f"expected {stop - stop % 4}; {recorded} was recorded at the stop before"
        )
        recorded = stopped_at[0].completed

    run = ends_whole(timeline, stopped_at)
    assert run.shards[0].interruptions == len(STOPS)


def test_import_resume_refuses_a_stale_generation(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    """I4: what the interrupted attachment still has to say changes nothing."""
    timeline = stopped_import(neon_env_builder, import_bucket, after_job(6))
    timeline.restart_killed(hold=after_job(10))
    timeline.wait_at(after_job(10))
    recorded = timeline.progress()
    jobs, plan_hash = recorded[0].jobs, recorded[0].plan_hash
    assert jobs is not None and plan_hash is not None

    for status in (
        InProgress(ShardImportProgress(jobs, jobs, plan_hash, JOB_SIZE)),
        Error("a voice from the past"),
        Done(),
    ):
        stale = PutImportStatusRequest(timeline.shards[0], timeline.timeline_id, status, generation=1)
        answer = requests.post(
            f"{timeline.env.storage_controller.upcall_api_endpoint()}/timeline_import_status",
            data=codec.encode(stale),
            timeout=10,
        )
        assert answer.status_code == 412, f"I4 fenced: generation 1 got {answer.status_code} for {status}"
        assert timeline.progress() == recorded, f"I4 fenced: generation 1 changed the record with {status}"

    timeline.release(after_job(10))
    run = ends_whole(timeline)
    assert run.shards[0].resumed_from == 4
