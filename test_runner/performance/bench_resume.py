"""What interruptions cost: an import that is interrupted five times against one that is not."""

from __future__ import annotations

import time

from reattach.fixtures.common_types import TenantId
from reattach.fixtures.env.env import NeonEnv
from reattach.fixtures.imports.bucket import ImportBucket
from reattach.fixtures.imports.handle import ImportTimeline, after_job
from test_runner.performance.data import MIB, DataFactory
from test_runner.performance.lab import IMPORT_SECONDS, Lab, drop_tenant, timed_import
from test_runner.performance.result import Result, Side, as_long_as, single

INTERRUPTIONS = 5
RUNS = 5

_RELATIONS = 120
_RELATION_BYTES = 2 * MIB
"""Small enough for the settings of the tests to make a job of each."""

_FIRST_STOP, _STEP = 6, 20


def interrupted(lab: Lab) -> list[Result]:
    """The pageserver is killed between two checkpoints, each time; with the settings of the tests."""
    bucket = DataFactory(lab).relations([_RELATION_BYTES] * _RELATIONS)
    pairs, run_twice = [], []
    with lab.environment() as env:
        for _ in lab.runs(RUNS):
            seconds, timeline = _interrupted_import(env, bucket)
            run_twice.append(float(timeline.run().ran_twice))
            env.storage_controller.pageserver_api().tenant_delete(timeline.tenant_id)
            whole = timed_import(env, bucket)
            drop_tenant(env, whole)
            pairs.append((seconds, whole.seconds))
    cut, whole_times = zip(*pairs, strict=True)
    return [
        as_long_as(
            f"import killed {INTERRUPTIONS} times",
            Side("interrupted", "s", cut),
            Side("not interrupted", "s", whole_times),
        ),
        single(
            "a kill: restart, re-attach, plan, jobs again",
            Side("each", "s", tuple((a - b) / INTERRUPTIONS for a, b in pairs)),
        ),
        single(f"jobs run twice by {INTERRUPTIONS} kills", Side("jobs", "", tuple(run_twice))),
    ]


def _interrupted_import(env: NeonEnv, bucket: ImportBucket) -> tuple[float, ImportTimeline]:
    stops = [_FIRST_STOP + _STEP * number for number in range(INTERRUPTIONS)]
    tenant = TenantId.generate()
    env.storage_controller.tenant_create(tenant)
    began = time.monotonic()
    timeline = env.start_import(bucket, tenant_id=tenant, hold=after_job(stops[0]))
    for stop, following in zip(stops, [*stops[1:], None], strict=True):
        timeline.wait_at(after_job(stop))
        timeline.restart_killed(hold=None if following is None else after_job(following))
    timeline.wait_done(IMPORT_SECONDS)
    calls = env.control_plane.import_complete_calls
    told = next(call.at for call in calls if call.timeline_id == timeline.timeline_id)
    return told - began, timeline
