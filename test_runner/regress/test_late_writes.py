"""A pageserver that stood still while its tenant moved and something was deleted goes on (I9)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reattach.fixtures.imports.bucket import ImportBucket
from reattach.fixtures.neon_fixtures import NeonEnvBuilder
from reattach.fixtures.pageserver.server import NeonPageserver
from reattach.fixtures.remote_storage import RemoteStorageKind, available_remote_storages
from reattach.fixtures.waiting import wait_until

LAYER = "before-upload-layer-pausable"


@contextmanager
def standing_still(pageserver: NeonPageserver) -> Iterator[None]:
    assert pageserver.pid is not None
    os.kill(pageserver.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pageserver.pid, signal.SIGCONT)


@pytest.mark.parametrize("storage", available_remote_storages())
@pytest.mark.parametrize("what", ["tenant", "timeline"])
def test_what_comes_after_a_deletion_goes(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket, storage: RemoteStorageKind, what: str
) -> None:
    neon_env_builder.enable_pageserver_remote_storage(storage)
    neon_env_builder.num_pageservers = 2
    neon_env_builder.storage_controller_config = {"max_offline": "1s"}
    env = neon_env_builder.init_start()
    for service in env.services:
        service.allowed_errors.append(".*")
    for pageserver in env.pageservers:
        pageserver.http_client().configure_failpoints((LAYER, "sleep(500)"))
    timeline = env.start_import(import_bucket)
    late = timeline.pageserver_of(0)
    wait_until(lambda: late.assert_log_contains(f".*at failpoint {LAYER}"), timeout=20)

    def moved() -> None:
        assert timeline.pageserver_of(0) is not late

    with standing_still(late):
        wait_until(moved, timeout=30)
        if what == "tenant":
            env.storage_controller.pageserver_api().tenant_delete(timeline.tenant_id)
        else:
            timeline.delete()
    remote = env.pageserver_remote_storage
    assert remote is not None

    def nothing_is_left() -> None:
        late.assert_log_contains(f".*{timeline.shards[0]}: shut down in generation 00000001")
        assert timeline.shards[0] not in late.http_client().locations()
        prefix = f"tenants/{timeline.tenant_id}"
        if what == "timeline":
            prefix += f"/timelines/{timeline.timeline_id}"
        assert remote.list_objects(prefix) == []

    wait_until(nothing_is_left, timeout=30)
