"""One pageserver, alone with a scripted controller, and something to import."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reattach.api.ids import TenantId, TenantShardId, TimelineId
from reattach.fixtures.bucket.server import BucketServer
from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.processes import Launcher
from test_runner.regress.pageserver.one_pageserver import PageserverProcess
from test_runner.regress.pageserver.scripted_controller import FakeController, serve_controller
from test_runner.regress.pageserver.subject import Subject
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
def second(
    launcher: Launcher, port_distributor: PortDistributor, controller: FakeController, tmp_path: Path
) -> Iterator[PageserverProcess]:
    """Another pageserver with the same remote storage and controller."""
    server = PageserverProcess.create(launcher, controller, port_distributor, tmp_path, node_id=2)
    yield server.start()
    server.kill()
    server.session.close()


@pytest.fixture
def remote_bucket(bucket_server: BucketServer, tenant: TenantShardId) -> str:
    """A bucket of this test's own."""
    name = f"remote-{tenant.tenant_id}"
    bucket_server.create_bucket(name)
    return name


@pytest.fixture
def s3_pageserver(
    stopped_pageserver: PageserverProcess, bucket_server: BucketServer, remote_bucket: str
) -> PageserverProcess:
    """Its remote storage is below `some/prefix` of `remote_bucket`."""
    stopped_pageserver.configure(
        remote_storage={
            "bucket_name": remote_bucket,
            "bucket_region": bucket_server.region,
            "prefix_in_bucket": "some/prefix/",
            "endpoint": bucket_server.endpoint,
            "timeout": "5s",
        }
    )
    return stopped_pageserver.start(bucket_server.environment("pageserver"))


@pytest.fixture
def tenant() -> TenantShardId:
    return TenantShardId.unsharded(TenantId.generate())


@pytest.fixture
def timeline() -> TimelineId:
    return TimelineId.generate()


@pytest.fixture
def subject(
    pageserver: PageserverProcess, bucket: DataDirectory, tenant: TenantShardId, timeline: TimelineId
) -> Subject:
    return Subject(pageserver, bucket, tenant, timeline)


@pytest.fixture
def s3_subject(
    s3_pageserver: PageserverProcess, bucket: DataDirectory, tenant: TenantShardId, timeline: TimelineId
) -> Subject:
    return Subject(s3_pageserver, bucket, tenant, timeline)
