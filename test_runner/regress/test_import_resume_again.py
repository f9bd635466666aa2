"""Interrupted again and again, an import still converges: many a second resume forgets the first."""

from __future__ import annotations

import pytest
import requests

from reattach.api import codec
from reattach.api.import_status import Done, Error, InProgress, ShardImportProgress
from reattach.api.upcall import PutImportStatusRequest
from reattach.fixtures.imports.bucket import ImportBucket
from reattach.fixtures.imports.handle import ImportTimeline, Point, after_job
from reattach.fixtures.imports.run import ImportProgress
from reattach.fixtures.neon_fixtures import NeonEnvBuilder
from test_runner.regress.interruptions import JOB_SIZE, ends_whole, stopped_import


def interrupt_after(timeline: ImportTimeline, job: int, then_hold: Point | None) -> ImportProgress:
    """Waits until every shard has taken `job`, and kills its pageserver. Returns what was recorded."""
    timeline.wait_at(after_job(job))
    stopped_at = timeline.progress()
    timeline.restart_killed(hold=then_hold)
    return stopped_at


@pytest.mark.parametrize("stops", [(6, 10, 18), (6, 7, 7)], ids=str)
def test_import_resume_again(
    neon_env_builder: NeonEnvBuilder,
    import_bucket: ImportBucket,
    stops: tuple[int, ...],
) -> None:
    """I3, I5: progress never falls, and every resume begins after the highest job recorded so far.

    (6, 7, 7) cuts the second pass short before it reaches a checkpoint of its own.
    """
    timeline = stopped_import(neon_env_builder, import_bucket, after_job(stops[0]))

    recorded = 0
    for stop, following in zip(stops, (*stops[1:], None), strict=True):
        stopped_at = interrupt_after(timeline, stop, None if following is None else after_job(following))
        assert stopped_at[0].completed == stop - stop % 4, (
            f"I3 forward only: {stopped_at[0].completed} is recorded after job {stop} was taken, "
            f"expected {stop - stop % 4}; {recorded} was recorded at the stop before"
        )
        recorded = stopped_at[0].completed

    run = ends_whole(timeline, stopped_at)
    assert run.shards[0].interruptions == len(stops)


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


def test_import_resume_converges_when_interrupted_faster_than_a_pass(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    """I10: an import that is cut short five jobs after every resume ends all the same."""
    timeline = stopped_import(neon_env_builder, import_bucket, after_job(5), concurrency=2)
    jobs, stop = timeline.run().jobs, 5
    while stop + 4 <= jobs:
        timeline.restart_killed(hold=after_job(stop + 4))
        stop += 4
        timeline.wait_at(after_job(stop))
        assert timeline.progress()[0].completed == stop - 1
    timeline.kill().start()

    run = ends_whole(timeline)
    assert run.interruptions == (jobs - 1) // 4
    assert run.ran_twice <= 4 * run.interruptions
