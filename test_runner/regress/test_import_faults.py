"""An import meets every fault of the bucket, and ends right, or ends with an error that names the object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reattach.api.bucket import Operation
from reattach.fixtures.bucket import Fault, FaultBuilder, Faults
from reattach.fixtures.control_plane import ControlPlane
from reattach.fixtures.imports.bucket import S3ImportBucket
from reattach.fixtures.imports.handle import after_job
from reattach.fixtures.neon_fixtures import NeonEnvBuilder, PageserverImportConfig
from reattach.fixtures.waiting import wait_until
from test_runner.regress.interruptions import JOB_SIZE, stopped_import

Set = Callable[[Faults, str], Fault]
"""Sets a fault on the object with that key, or on listings below it."""


def on_reads(faults: Faults, key: str, times: int | None = 2) -> FaultBuilder:
    return faults.on(Operation.GET_OBJECT, key=key, times=times)


# Each kind, and not each value: the client's own tests have all of them.
PASSING: dict[str, Set] = {
    # The first is on the largest object, of which more than one range is read.
    "whole_object_for_range": lambda faults, key: on_reads(faults, key).ignore_range(),
    "slow_down": lambda faults, key: on_reads(faults, key).slow_down(retry_after=1),
    "error_403_twice": lambda faults, key: on_reads(faults, key).status(403),
    "reset_in_body": lambda faults, key: on_reads(faults, key).reset(after=5000),
    "stall_in_body": lambda faults, key: on_reads(faults, key, 1).stall(after=5000),
    "short_body": lambda faults, key: on_reads(faults, key).truncate(5000),
}

ENDING: dict[str, Set] = {
    "gone": lambda faults, key: on_reads(faults, key, None).status(404),
    "etag_changed": lambda faults, key: on_reads(faults, key, None).change_etag(),
}


def quick_to_notice_a_stall(config: dict[str, Any]) -> None:
    config["timeline_import_config"]["stall_timeout"] = "500ms"


def test_import_survives_faults(
    neon_env_builder: NeonEnvBuilder,
    import_bucket: S3ImportBucket,
    control_plane: ControlPlane,
    bucket_faults: Faults,
) -> None:
    """I8, I10: what passes is retried, and no byte of a spoilt answer is imported. Each has an object."""
    neon_env_builder.pageserver_import_config = PageserverImportConfig(8, JOB_SIZE, 4)
    neon_env_builder.pageserver_config_override = quick_to_notice_a_stall
    env = neon_env_builder.init_start()
    sizes = import_bucket.data_files().sizes()
    largest = sorted((n for n in sizes if n.startswith("base/")), key=lambda n: sizes[n], reverse=True)
    met = {
        kind: fault(bucket_faults, f"{import_bucket.prefix}/pgdata/{name}")
        for (kind, fault), name in zip(PASSING.items(), largest, strict=False)
    }

    timeline = env.start_import(import_bucket)

    timeline.wait_done()
    assert [kind for kind, fault in met.items() if not fault.fired] == [], "the import never met these"
    assert control_plane.import_complete(timeline) == [None]
    timeline.assert_equals(import_bucket)


@pytest.mark.parametrize("fault", ENDING)
def test_import_ends_on_fault(
    neon_env_builder: NeonEnvBuilder,
    import_bucket: S3ImportBucket,
    control_plane: ControlPlane,
    bucket_faults: Faults,
    fault: str,
) -> None:
    """I7, I11: what will not pass ends the import with the object's name; nothing hangs."""
    neon_env_builder.pageserver_import_config = PageserverImportConfig(4, JOB_SIZE, 4)
    env = neon_env_builder.init_start()
    env.pageserver.allowed_errors += [".*task failed: .*", ".*reading .* failed, will retry.*"]
    env.storage_controller.allowed_errors.append(".*Timeline import completed with shard errors.*")
    name = import_bucket.largest_relation_file()
    ENDING[fault](bucket_faults, f"{import_bucket.prefix}/{name}")

    timeline = env.start_import(import_bucket)

    error = timeline.wait_failed()
    assert name in error
    assert control_plane.import_complete(timeline) == [error]
    timeline.wait_forgotten()


def test_import_ends_on_changed_content(
    neon_env_builder: NeonEnvBuilder,
    import_bucket: S3ImportBucket,
    control_plane: ControlPlane,
) -> None:
    """I8, I11: an object that is replaced while its import runs is never mixed with its old self."""
    neon_env_builder.pageserver_import_config = PageserverImportConfig(1, JOB_SIZE, 4)
    env = neon_env_builder.init_start()
    env.pageserver.allowed_errors.append(".*task failed: .*")
    env.storage_controller.allowed_errors.append(".*Timeline import completed with shard errors.*")
    name = import_bucket.largest_relation_file()
    timeline = env.start_import(import_bucket, hold=after_job(1))
    timeline.wait_at(after_job(1))

    import_bucket.put(name, import_bucket.get(name)[:-1] + b"?")
    timeline.release_all()

    error = timeline.wait_failed()
    assert name in error
    assert control_plane.import_complete(timeline) == [error]


def test_import_ends_on_stale_listing_at_resume(
    neon_env_builder: NeonEnvBuilder,
    import_bucket: S3ImportBucket,
    control_plane: ControlPlane,
    bucket_faults: Faults,
) -> None:
    """I1, I11: a listing that hides an object gives another plan, and the resume refuses it."""
    timeline = stopped_import(neon_env_builder, import_bucket, after_job(6))
    timeline.env.pageserver.allowed_errors.append(".*task failed: Import plan .*")
    timeline.env.storage_controller.allowed_errors.append(".*Timeline import completed with shard errors.*")
    name = import_bucket.largest_relation_file()
    bucket_faults.on(Operation.LIST_OBJECTS_V2, bucket=import_bucket.bucket).stale_listing(
        hide=f"{import_bucket.prefix}/{name}"
    )

    timeline.restart_killed()

    error = timeline.wait_failed()
    assert "Import plan" in error and name in error
    assert control_plane.import_complete(timeline) == [error]


def test_import_waits_for_a_bucket_that_is_not_ready(
    neon_env_builder: NeonEnvBuilder,
    import_bucket: S3ImportBucket,
    control_plane: ControlPlane,
) -> None:
    """I10: the timeline may be created before the upload has ended."""
    import_bucket.delete("status/pgdata")
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket)

    def looks_again() -> None:
        asked = [entry.key.rpartition("/status/")[2] for entry in import_bucket.requests().failed]
        assert asked[:2] == ["pgdata", "pgdata"]

    wait_until(looks_again)

    import_bucket.put("status/pgdata", b'{"done": true}')

    timeline.wait_done()
    assert control_plane.import_complete(timeline) == [None]
    timeline.assert_equals(import_bucket)
