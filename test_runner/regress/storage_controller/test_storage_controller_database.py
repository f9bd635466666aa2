"""The controller's PostgreSQL dies, comes back, is full, is old, is new."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from reattach.fixtures.control_plane import Upcall
from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.postgres.cluster import SUPERUSER, ClusterCache, append_settings
from reattach.fixtures.postgres.databases import Database
from reattach.fixtures.postgres.distributions import Distribution
from reattach.fixtures.postgres.server import PostgresServer
from reattach.fixtures.processes import Launcher
from test_runner.regress.storage_controller.cloud import Cloud

MAX_CONNECTIONS = 12


class OwnDatabase:
    """A PostgreSQL that a test may kill."""

    def __init__(self, server: PostgresServer, url: str) -> None:
        self.server = server
        self.database = Database("postgres", url)


@pytest.fixture
def own_database(
    launcher: Launcher,
    pg_distributions: dict[int, Distribution],
    pg_clusters: ClusterCache,
    port_distributor: PortDistributor,
    test_output_dir: Path,
) -> Iterator[OwnDatabase]:
    distribution = pg_distributions[max(pg_distributions)]
    directory = test_output_dir / "database"
    launcher.remove_at_exit(directory)
    pg_clusters.create(distribution, directory)
    port = port_distributor.get_port()
    append_settings(directory, [f"port = {port}", f"max_connections = {MAX_CONNECTIONS}"])
    server = PostgresServer(
        launcher, distribution, directory, log_path=test_output_dir / "database.log", name="own database"
    )
    server.start()
    yield OwnDatabase(server, f"postgresql://{SUPERUSER}@127.0.0.1:{port}/postgres")
    server.kill()
    shutil.rmtree(directory)


@pytest.fixture
def cloud(
    own_database: OwnDatabase,
    launcher: Launcher,
    port_distributor: PortDistributor,
    neon_binpath: Path,
    test_output_dir: Path,
) -> Iterator[Cloud]:
    executable = neon_binpath / "storage_controller"
    with Cloud(
        launcher,
        port_distributor,
        own_database.database,
        executable,
        test_output_dir,
        nodes=2,
        runs_imports=True,
    ) as cloud:
        yield cloud
    assert cloud.violations == []


def test_killed_during_an_import(cloud: Cloud, own_database: OwnDatabase) -> None:
    """I3, I7, I10: PostgreSQL killed again and again under an import of four shards loses nothing."""
    for node in cloud.nodes:
        node.jobs = 150
        node.on_generation = lambda shard, generation: None  # It would ask the database.
    tenant = cloud.create_tenant(shards=4)
    timeline = cloud.create_import(tenant)
    furthest = dict.fromkeys(("0004", "0104", "0204", "0304"), 0)

    def recorded() -> dict[str, int]:
        statuses = cloud.statuses(tenant, timeline) or {}
        return {
            slug: (status["InProgress"]["V1"]["completed"] if status["InProgress"] else 0)
            if isinstance(status, dict)
            else 150
            for slug, status in statuses.items()
        }

    for _ in range(4):
        before = dict(furthest)

        def moved(before: dict[str, int] = before) -> bool:
            return any(done > before[slug] for slug, done in recorded().items())

        cloud.wait(moved, "progress")
        furthest = recorded()
        own_database.server.kill()
        own_database.server.start()
        assert all(done >= furthest[slug] for slug, done in recorded().items())
    assert cloud.wait_told(timeline, timeout=40) is None
    assert cloud.told(timeline) == [None]
    cloud.wait_idle()
    cloud.api.ok("POST", "/debug/v1/consistency_check")


def test_requests_get_503_while_it_is_away(cloud: Cloud, own_database: OwnDatabase) -> None:
    """Nothing hangs, nothing is half-done, and what was refused works afterwards."""
    tenant = cloud.create_tenant()
    timeline = cloud.create_import(tenant)
    cloud.wait_told(timeline)
    other = uuid.uuid4().hex
    own_database.server.kill()
    requests = [
        ("POST", "/v1/tenant", {"new_tenant_id": other}),
        ("PUT", f"/control/v1/tenant/{tenant}/policy", {"placement": "Detached"}),
        ("POST", f"/v1/tenant/{tenant}/timeline", cloud.import_body(uuid.uuid4().hex)),
        (
            "POST",
            "/upcall/v1/timeline_import_status",
            {"tenant_shard_id": tenant, "timeline_id": timeline, "status": "Done", "generation": 1},
        ),
        ("POST", "/upcall/v1/validate", {"tenants": [{"id": tenant, "gen": 1}]}),
        ("POST", "/upcall/v1/re-attach", {"node_id": 1}),
    ]
    began = time.monotonic()
    with ThreadPoolExecutor(len(requests)) as pool:
        for request, answer in zip(requests, pool.map(lambda r: cloud.api.call(*r), requests), strict=True):
            assert answer[0] == 503, (request, answer)
    assert time.monotonic() - began < 6
    assert cloud.api.call("GET", "/ready")[0] == 200
    assert cloud.api.call("GET", f"/debug/v1/tenant/{tenant}/locate")[0] == 200
    own_database.server.start()
    cloud.create_tenant(tenant=other)
    assert cloud.issued(tenant) == (1, cloud.issued(tenant)[1])
    cloud.api.ok("POST", "/debug/v1/consistency_check")


def test_dies_with_the_import_complete(cloud: Cloud, own_database: OwnDatabase) -> None:
    """I7: PostgreSQL is away when the row is to be removed; the row goes when it is back."""
    tenant = cloud.create_tenant()
    with cloud.control_plane.hold():
        timeline = cloud.create_import(tenant)
        cloud.control_plane.wait_arrived(Upcall.IMPORT_COMPLETE)
        own_database.server.kill()
    cloud.wait(lambda: cloud.told(timeline), "the control plane to hear")
    cloud.wait(lambda: "Waiting for the database" in cloud.log, "the finaliser to notice")
    own_database.server.start()
    assert cloud.wait_told(timeline) is None
    assert cloud.told(timeline) == [None]


def test_lost_connections_are_replaced(cloud: Cloud, own_database: OwnDatabase) -> None:
    """A database that is back is used at once: nobody is refused because of connections that it broke."""
    tenant = cloud.create_tenant(shards=2)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: cloud.api.call("GET", f"/control/v1/tenant/{tenant}"), range(32)))
    own_database.server.kill()
    own_database.server.start()
    for _ in range(10):
        assert cloud.api.call("GET", f"/control/v1/tenant/{tenant}")[0] == 200


def test_a_full_server_is_503_and_passes(cloud: Cloud, own_database: OwnDatabase) -> None:
    """Others hold every connection: requests are refused, and served when there is room."""
    tenant = cloud.create_tenant()
    own_database.server.kill()
    own_database.server.start()
    with ExitStack() as stack:
        while True:
            try:
                connection = psycopg.connect(own_database.database.url, connect_timeout=2)
            except psycopg.OperationalError:
                break
            stack.callback(connection.close)
        detach = ("PUT", f"/control/v1/tenant/{tenant}/policy", {"placement": "Detached"})
        assert cloud.api.call(*detach)[0] == 503
    cloud.wait(lambda: cloud.api.call(*detach)[0] == 200, "room for the controller")
    cloud.wait_idle()
    assert cloud.issued(tenant) == (1, None)


def test_a_full_pool_is_503_and_passes(cloud: Cloud) -> None:
    """The controller's own connections all wait for a lock: whoever comes then is refused in time."""
    tenant = cloud.create_tenant()
    detach = ("PUT", f"/control/v1/tenant/{tenant}/policy", {"placement": "Detached"})
    with psycopg.connect(cloud.database.url) as connection, ThreadPoolExecutor(40) as pool:
        connection.execute("LOCK TABLE timeline_imports IN ACCESS EXCLUSIVE MODE")
        list_imports = [
            pool.submit(cloud.api.call, "GET", f"/control/v1/tenant/{tenant}/import") for _ in range(40)
        ]
        statuses = []
        cloud.wait(
            lambda: sum(one.done() for one in list_imports) >= 24, "the queue to be refused", timeout=4
        )
        statuses = [one.result()[0] for one in list_imports if one.done()]
        assert set(statuses) == {503}
        connection.rollback()
        assert {one.result()[0] for one in list_imports} == {200, 503}
    assert cloud.api.call(*detach)[0] == 200


def test_it_waits_for_the_database_at_start(cloud: Cloud, own_database: OwnDatabase) -> None:
    cloud.kill_controller()
    own_database.server.kill()
    cloud.launch_controller()
    own_database.server.start()
    cloud.wait(lambda: cloud.api.call("GET", "/ready")[0] == 200, "the controller to be ready")


def test_it_gives_up_when_there_is_no_database(cloud: Cloud, own_database: OwnDatabase) -> None:
    cloud.kill_controller()
    own_database.server.kill()
    cloud._arguments += ["--db-connect-timeout", "200ms"]
    process = cloud.launch_controller()
    assert process.wait(10) == 1
    assert "Cannot start: database did not answer in 0.2 s" in cloud.log


def test_a_newer_schema_is_refused(cloud: Cloud) -> None:
    cloud.kill_controller()
    cloud.execute("INSERT INTO schema_migrations (version) VALUES (999)")
    assert cloud.launch_controller().wait(10) == 1
    assert "the database has schema 999" in cloud.log


def test_two_controllers_migrate_one_database(cloud: Cloud, port_distributor: PortDistributor) -> None:
    """The advisory lock lets one of them do it."""
    cloud.kill_controller()
    cloud.execute(
        "DROP TABLE schema_migrations, tenant_shards, nodes, timeline_imports, finished_imports, controllers,"
        " owed_deletions"
    )
    applied_before = cloud.log.count("Applied 3 migrations")
    ports = [port_distributor.get_port() for _ in range(4)]
    processes = []
    for port in ports:
        cloud.port = port
        processes.append(cloud.launch_controller())
    for port, process in zip(ports, processes, strict=True):
        cloud.port = port
        cloud.wait(
            lambda: cloud.api.call("GET", "/ready")[0] == 200, "a controller to be ready", alive=process
        )
    for process in processes:
        process.kill()
        process.wait(10)
    assert cloud.log.count("Applied 3 migrations") == applied_before + 1
