"""Deleting a sharded tenant through the storage controller, whatever its import is at."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from reattach.fixtures.imports.bucket import ImportBucket
from reattach.fixtures.imports.handle import ImportFailed, ImportTimeline, after_job
from reattach.fixtures.neon_fixtures import (
    NeonEnv,
    NeonEnvBuilder,
    PageserverImportConfig,
    StorageControllerApiException,
    StorageControllerMigrationConfig,
)
from reattach.fixtures.pageserver.http_session import PageserverApiException
from reattach.fixtures.processes import wait_for
from reattach.fixtures.remote_storage import RemoteStorageKind, s3_storage
from reattach.fixtures.skips import xfail_on_real

SHARDS = 4


def delete_until_gone(env: NeonEnv, timeline: ImportTimeline) -> None:
    """What callers do: DELETE until it is done, or was done by an earlier one."""

    def is_gone() -> bool:
        try:
            env.storage_controller.pageserver_api().tenant_delete(timeline.tenant_id)
        except StorageControllerApiException as e:
            return e.status_code == 404
        return True

    wait_for(is_gone, what="the tenant to be deleted", timeout=60)


_ROW_STAYS = xfail_on_real(
    "storage_controller",
    reason="the rows of a deleted tenant's imports stay, and its deletion during a restart is a 500",
    raises=(ImportFailed, PageserverApiException),
)


def assert_nothing_left(env: NeonEnv, timeline: ImportTimeline) -> None:
    """I9: no object below any shard's prefix, no local directory, no row, no location."""
    timeline.assert_gone()
    storage = env.pageserver_remote_storage
    assert storage is not None
    assert storage.list_objects(f"tenants/{timeline.tenant_id}") == []
    for pageserver in env.pageservers:
        assert pageserver.http_client().locations().keys().isdisjoint(timeline.shards)
        assert not any(pageserver.tenant_dir(shard).exists() for shard in timeline.shards)


@pytest.mark.parametrize(
    ("when", "storage"),
    [
        pytest.param("importing", s3_storage(), marks=_ROW_STAYS),
        ("done", RemoteStorageKind.LOCAL_FS),
        pytest.param("migrated", s3_storage(), marks=_ROW_STAYS),
        pytest.param("restarting", s3_storage(), marks=_ROW_STAYS),
    ],
)
def test_import_resume_tenant_delete(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket, storage: RemoteStorageKind, when: str
) -> None:
    """I9: the remote prefix of every shard is empty, and stays empty."""
    neon_env_builder.enable_pageserver_remote_storage(storage)
    neon_env_builder.num_pageservers = 2
    neon_env_builder.pageserver_import_config = PageserverImportConfig(4, 512 * 1024, 4)
    env = neon_env_builder.init_start()
    env.storage_controller.allowed_errors.append(".*Reconcile error on shard .*: Cancelled.*")
    timeline = env.start_import(import_bucket, shard_count=SHARDS, hold=after_job(5))
    timeline.wait_at(after_job(5))
    assert env.pageserver_remote_storage is not None
    stored = env.pageserver_remote_storage.list_objects(f"tenants/{timeline.tenant_id}")
    assert {entry.key.split("/")[1] for entry in stored} == set(map(str, timeline.shards))

    with ThreadPoolExecutor(1) as pool:
        if when == "done":
            timeline.release_all()
            timeline.wait_done()
        elif when == "migrated":
            origin = timeline.pageserver_of(1)
            destination = next(one for one in env.pageservers if one.id != origin.id)
            # Three of four shards on one node is not what the scheduler likes.
            config = StorageControllerMigrationConfig(prewarm=False, override_scheduler=True)
            env.storage_controller.tenant_shard_migrate(timeline.shards[1], destination.id, config)
        elif when == "restarting":
            # It re-attaches, and goes on importing, while the controller deletes.
            starting = pool.submit(timeline.kill(0).start)
        delete_until_gone(env, timeline)
        if when == "restarting":
            starting.result(30)
    assert_nothing_left(env, timeline)

    for pageserver in env.pageservers:
        pageserver.http_client().deletion_queue_flush(execute=True)
        pageserver.restart()
    env.storage_controller.reconcile_until_idle()
    assert_nothing_left(env, timeline)
