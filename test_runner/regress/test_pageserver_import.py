"""An import as one pageserver sees it: create, import, report, activate, read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.ports import PortDistributor
from fixtures.processes import Launcher
from reattach.api.ids import TenantId, TenantShardId, TimelineId
from reattach.api.key import BLCKSZ, RelTag
from test_runner.regress.pageserver_controller import FakeController, serve_controller
from test_runner.regress.pageserver_process import PageserverProcess
from test_runner.unit.import_pgdata.data_directory import DataDirectory, small_data_directory

REL = RelTag(1663, 5, 16384, 0)
REL_PATH = "pgdata/base/5/16384"


@pytest.fixture
def controller() -> Iterator[FakeController]:
    with serve_controller() as controller:
        yield controller


@pytest.fixture
def bucket(tmp_path: Path) -> DataDirectory:
    return small_data_directory(tmp_path / "bucket")


@pytest.fixture
def pageserver(
    launcher: Launcher, port_distributor: PortDistributor, controller: FakeController, tmp_path: Path
) -> Iterator[PageserverProcess]:
    server = PageserverProcess.create(launcher, controller, port_distributor, tmp_path)
    yield server.start()
    server.kill()


@pytest.fixture
def tenant() -> TenantShardId:
    return TenantShardId.unsharded(TenantId.generate())


@pytest.fixture
def timeline() -> TimelineId:
    return TimelineId.generate()


def test_import_activate_read(
    pageserver: PageserverProcess, bucket: DataDirectory, tenant: TenantShardId, timeline: TimelineId
) -> None:
    """I8: what getpage answers after activation are the bucket's bytes."""
    pageserver.attach(tenant)
    created = pageserver.create_import(tenant, timeline, bucket.root)
    assert (created["state"], created["pg_version"]) == ("Loading", 15)
    assert created["last_record_lsn"] == "0/0"
    pageserver.wait_recorded(tenant, timeline)
    pageserver.call("GET", f"/v1/tenant/{tenant}/timeline/{timeline}", expect=404)
    info = pageserver.activate(tenant, timeline)
    assert info["initdb_lsn"] == info["min_readable_lsn"] == info["prev_record_lsn"] == "0/1500028"
    assert info["disk_consistent_lsn"] == info["last_record_lsn"] == "0/1500030"
    assert info["remote_consistent_lsn_visible"] == "0/1500030"
    source = bucket.read(REL_PATH)
    for block in (0, 1, 69):
        page = pageserver.get_page(tenant, timeline, REL.block(block))
        assert page == source[block * BLCKSZ : (block + 1) * BLCKSZ]
    pageserver.call("GET", f"/v1/tenant/{tenant}/timeline/{timeline}/getpage?key={REL.block(70)}", expect=500)
