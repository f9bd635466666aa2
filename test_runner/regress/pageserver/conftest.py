"""One pageserver, alone with a scripted controller, and something to import."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.ports import PortDistributor
from fixtures.processes import Launcher
from reattach.api.ids import TenantId, TenantShardId, TimelineId
from test_runner.regress.pageserver.one_pageserver import PageserverProcess
from test_runner.regress.pageserver.scripted_controller import FakeController, serve_controller
from test_runner.unit.import_pgdata.data_directory import DataDirectory, small_data_directory


@pytest.fixture
def controller() -> Iterator[FakeController]:
    with serve_controller() as controller:
        yield controller


@pytest.fixture
def bucket(tmp_path: Path) -> DataDirectory:
    """Ten jobs with the limits of `one_pageserver.IMPORT_CONFIG`."""
    return small_data_directory(tmp_path / "bucket")


@pytest.fixture
def stopped_pageserver(
    launcher: Launcher, port_distributor: PortDistributor, controller: FakeController, tmp_path: Path
) -> Iterator[PageserverProcess]:
    server = PageserverProcess.create(launcher, controller, port_distributor, tmp_path)
    yield server
    if server.process is not None:
        server.kill()
    server.session.close()


@pytest.fixture
def pageserver(stopped_pageserver: PageserverProcess) -> PageserverProcess:
    return stopped_pageserver.start()


@pytest.fixture
def tenant() -> TenantShardId:
    return TenantShardId.unsharded(TenantId.generate())


@pytest.fixture
def timeline() -> TimelineId:
    return TimelineId.generate()
