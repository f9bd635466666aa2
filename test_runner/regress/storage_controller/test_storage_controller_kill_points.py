"""The controller is killed at each of its writes and calls; every import ends all the same (I10).

The points are those of `reattach.api.controller_points`. The test report has one test for each, with the
property `kill point`, which says that it was reached.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from reattach.api.controller_points import ALL_POINTS, Call, Point, Write, after, before
from reattach.api.lsn import Lsn
from reattach.fixtures.http_probe import probe
from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.postgres.databases import DatabaseServer
from reattach.fixtures.processes import Launcher, wait_for
from test_runner.regress.storage_controller.api import Refused
from test_runner.regress.storage_controller.cloud import TIMEOUT, Cloud
from test_runner.regress.storage_controller.fake_pageserver import FakePageserver


class Supervised:
    """A cloud whose controller is started again whenever it dies, and clients that do not give up."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.tenant = ""
        self.timeline = ""

    def insist(self, method: str, path: str, body: Any = None, *, gone_is_fine: bool = False) -> None:
        """Repeats a request until it succeeds, as its client would."""

        def once() -> bool:
            try:
                self.cloud.api.ok(method, path, body)
            except Refused as e:
                if e.status == 404 and gone_is_fine:
                    return True
                raise
            return True

        self.cloud.until(once, f"{method} {path}")

    def idle(self) -> None:
        self.cloud.until(
            lambda: self.cloud.api.ok("POST", "/debug/v1/reconcile_all") == 0, "nothing to reconcile"
        )

    def begin(self) -> None:
        """A tenant of two shards with an import that is under way."""
        self.tenant, self.timeline = uuid.uuid4().hex, uuid.uuid4().hex
        self.insist(
            "POST",
            "/v1/tenant",
            {"new_tenant_id": self.tenant, "shard_parameters": {"count": 2, "stripe_size": 2048}},
        )
        self.idle()
        body = self.cloud.import_body(self.timeline)
        self.insist("POST", f"/v1/tenant/{self.tenant}/timeline", body)

    def end(self) -> None:
        """The import ends: told at least once, without an error, and forgotten."""
        cloud = self.cloud
        cloud.until(lambda: cloud.told(self.timeline), "the control plane to hear")
        self.cloud.until(
            lambda: cloud.statuses(self.tenant, self.timeline) is None, "the import to be forgotten"
        )
        assert set(cloud.told(self.timeline)) == {None}
        for shard in cloud.shards(self.tenant):
            assert cloud.remote.timelines(shard)[self.timeline].imported
        self.idle()
        self.insist("POST", "/debug/v1/consistency_check")
        assert cloud.violations == []
        for shard, generations in cloud.generations.items():
            # One location may be told of its generation more than once; never of an older one again.
            assert generations == sorted(generations), shard

    # What else happens while the import runs

    def nothing(self) -> None: ...

    def detach_and_attach(self) -> None:
        path = f"/control/v1/tenant/{self.tenant}/policy"
        for placement in ("Detached", {"Attached": 0}):
            self.insist("PUT", path, {"placement": placement})
            self.idle()

    def migrate(self, *, prewarm: bool = False) -> None:
        cloud, shard = self.cloud, f"{self.tenant}-0002"
        origin = cloud.issued(shard)[1]
        assert origin is not None
        config = {"prewarm": prewarm, "override_scheduler": True}
        body = {"node_id": 3 - origin, "migration_config": config}
        self.insist("PUT", f"/control/v1/tenant/{shard}/migrate", body)
        if not prewarm:
            cloud.until(lambda: cloud.issued(shard)[1] == 3 - origin, "the migration")

    def migrate_with_prewarm(self) -> None:
        """What is only in memory, such as a preference, may be lost; the shard is somewhere all the same."""
        self.migrate(prewarm=True)

    def migrate_behind(self) -> None:
        """The destination lacks WAL when it is attached."""
        cloud, shard = self.cloud, f"{self.tenant}-0002"
        plain = uuid.uuid4().hex
        self.insist("POST", f"/v1/tenant/{self.tenant}/timeline", {"new_timeline_id": plain})
        origin = cloud.issued(shard)[1]
        assert origin is not None
        cloud.node(3 - origin).lsn = Lsn(8)
        self.migrate()

    def reconfigure(self) -> None:
        self.insist("PUT", "/v1/tenant/config", {"tenant_id": self.tenant, "gc_horizon": 7})

    def delete_another_timeline(self) -> None:
        doomed = uuid.uuid4().hex
        self.insist("POST", f"/v1/tenant/{self.tenant}/timeline", self.cloud.import_body(doomed))
        path = f"/v1/tenant/{self.tenant}/timeline/{doomed}"
        self.insist("DELETE", path, gone_is_fine=True)
        told = len(self.cloud.told(doomed))
        assert self.cloud.statuses(self.tenant, doomed) is None
        self.end()
        assert len(self.cloud.told(doomed)) == told

    def another_tenant(self) -> None:
        other = uuid.uuid4().hex
        hook = {"tenant_shard_id": other, "node_id": 1}
        self.insist("POST", "/debug/v1/attach-hook", hook)
        self.insist("DELETE", f"/v1/tenant/{other}", gone_is_fine=True)
        assert self.cloud.shards(other) == []

    def another_node(self) -> None:
        node = FakePageserver(uuid.uuid4().int % 10**6 + 10, self.cloud.remote, self.cloud.api)
        try:
            self.cloud.until(lambda: self._restart(node), "the node to register")
            path = f"/control/v1/node/{node.id}/config"
            self.insist("PUT", path, {"node_id": node.id, "scheduling": "Pause"})
            self.insist("POST", f"/debug/v1/node/{node.id}/drop", gone_is_fine=True)
        finally:
            node.kill()

    def restart_a_pageserver(self) -> None:
        node = self.cloud.node(1)
        self.cloud.until(lambda: self._restart(node), "the pageserver to re-attach")
        self.cloud.until(
            lambda: self.cloud.api.ok("GET", "/control/v1/node/1")["availability"] == "Active", "node 1"
        )

    @staticmethod
    def _restart(node: FakePageserver) -> bool:
        node.restart()
        return True

    def restart_the_controller(self) -> None:
        """For points that a start passes: they are set by the environment."""
        self.cloud.kill_controller()
        process = self.cloud.launch_controller()
        wait_for(
            lambda: not process.is_running() or probe(self.cloud.port, "/ready") == 200,
            what="the controller to start or to die",
            timeout=TIMEOUT,
        )
        self.cloud.revive()


WHILE: dict[str, Callable[[Supervised], None]] = {
    Write.INSERT_NODE: Supervised.another_node,
    Write.UPDATE_NODE: Supervised.another_node,
    Write.DELETE_NODE: Supervised.another_node,
    Write.RE_ATTACH: Supervised.restart_a_pageserver,
    Write.UPDATE_TENANT: Supervised.detach_and_attach,
    Write.DELETE_TENANT: Supervised.another_tenant,
    Write.ATTACH_HOOK: Supervised.another_tenant,
    Write.DELETE_IMPORT: Supervised.delete_another_timeline,
    Call.TIMELINE_DELETE: Supervised.delete_another_timeline,
    Call.TENANT_DELETE: Supervised.another_tenant,
    Call.SECONDARY_DOWNLOAD: Supervised.migrate_with_prewarm,
    Call.WAIT_LSN: Supervised.migrate_behind,
    Point.UPDATE_POLICY_LOCKED: Supervised.detach_and_attach,
    Point.MIGRATE_PRE_GENERATION: Supervised.migrate,
    Point.MIGRATE_POST_GENERATION: Supervised.migrate,
    Point.MIGRATE_PRE_AWAIT_LSN: Supervised.migrate,
    Point.MIGRATE_POST_NOTIFY: Supervised.migrate,
    Point.MIGRATE_POST_DETACH: Supervised.migrate,
    Point.HEARTBEAT_PRE_CONFIGURE: Supervised.restart_a_pageserver,
}
"""What has to happen beside an import for a point to be reached; an import alone reaches the others."""

AT_START = (Write.MIGRATE_SCHEMA, Write.BECOME_LEADER, Write.DELETE_ORPHAN_IMPORTS)

MIGRATION_PUTS = 5
"""A migration changes locations as often."""


def scenario(point: str) -> Callable[[Supervised], None]:
    for operation, action in WHILE.items():
        names = [operation]
        if isinstance(operation, Write | Call):
            names = [before(operation), after(operation)]
        if point in names:
            return action
    return Supervised.nothing


@pytest.fixture(scope="module")
def supervised(
    launcher: Launcher,
    port_distributor: PortDistributor,
    database_server: DatabaseServer,
    top_output_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Supervised]:
    """One cloud for all points: what one kill leaves behind is what the next one finds."""
    from reattach.fixtures.env.engines import Engines

    with ExitStack() as stack:
        database = database_server.create_database()
        stack.callback(database_server.drop_database, database.name)
        executable = Engines.discover().pageserver.path.parent / "storage_controller"
        directory = tmp_path_factory.mktemp("kill_points")
        cloud = Cloud(launcher, port_distributor, database, executable, directory, nodes=2, runs_imports=True)
        yield Supervised(stack.enter_context(cloud))


@pytest.fixture
def points(supervised: Supervised) -> Iterator[Supervised]:
    """Whole again after each test."""
    supervised.cloud.deaths = 0
    yield supervised
    if supervised.cloud.controller is None or not supervised.cloud.controller.is_running():
        supervised.cloud.start_controller()
    supervised.cloud.violations.clear()
    supervised.cloud.generations.clear()


def kill_at(points: Supervised, point: str, actions: str, action: Callable[[Supervised], None]) -> None:
    points.cloud.failpoint(point, actions)
    points.begin()
    action(points)
    points.cloud.until(lambda: points.cloud.deaths, "the controller to die and to come back")
    points.end()
    assert points.cloud.deaths == 1
    assert f"Exit requested by failpoint {point}" in points.cloud.log


@pytest.mark.parametrize(
    "point", [p for p in ALL_POINTS if not any(p in (before(w), after(w)) for w in AT_START)]
)
def test_killed_at(points: Supervised, point: str, request: pytest.FixtureRequest) -> None:
    """I10, I7: killed -9 there, started again; the import that was under way ends."""
    kill_at(points, point, "exit", scenario(point))
    request.node.user_properties.append(("kill point", f"{point}: reached"))


@pytest.mark.parametrize("point", [name(write) for write in AT_START for name in (before, after)])
def test_killed_while_starting(points: Supervised, point: str, request: pytest.FixtureRequest) -> None:
    """I10: killed -9 in the middle of its start, which then begins again."""
    points.begin()
    points.cloud.environment["FAILPOINTS"] = f"{point}=exit"
    points.restart_the_controller()
    points.end()
    assert points.cloud.deaths == 1
    assert f"Exit requested by failpoint {point}" in points.cloud.log
    request.node.user_properties.append(("kill point", f"{point}: reached"))


@pytest.mark.parametrize("moment", [before, after], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, MIGRATION_PUTS + 1))
def test_killed_at_each_step_of_a_migration(
    points: Supervised,
    number: int,
    moment: Callable[[Call], str],
    request: pytest.FixtureRequest,
) -> None:
    """I10: at each of the location changes, in order."""
    points.begin()
    point = moment(Call.LOCATION_CONFIG)
    points.cloud.failpoint(point, f"{number - 1}*off->exit" if number > 1 else "exit")
    points.migrate()
    points.cloud.until(lambda: points.cloud.deaths == 1, "the controller to die and to come back")
    points.end()
    request.node.user_properties.append(("kill point", f"{point} number {number} of a migration: reached"))
