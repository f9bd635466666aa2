"""A real storage controller on a real PostgreSQL, with fake pageservers and a recording control plane."""

from __future__ import annotations

import itertools
import os
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg

from reattach.fixtures.control_plane import ControlPlane
from reattach.fixtures.http_probe import probe
from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.postgres.databases import Database
from reattach.fixtures.processes import Launcher, Process, wait_for
from test_runner.regress.storage_controller.api import Api, NoAnswer, Refused
from test_runner.regress.storage_controller.fake_pageserver import FakePageserver
from test_runner.regress.storage_controller.remote_storage import RemoteStorage

T = TypeVar("T")

HEARTBEAT = "100ms"
MAX_OFFLINE = "500ms"
TIMEOUT = 20.0

_serial = itertools.count(1)


class Cloud:
    """Use as a context manager: inside, the controller is ready and every node is active."""

    def __init__(
        self,
        launcher: Launcher,
        ports: PortDistributor,
        database: Database,
        executable: Path,
        directory: Path,
        *,
        nodes: int = 1,
        control_plane: bool = True,
        runs_imports: bool = False,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        zones: Sequence[str] = ("az-1",),
    ) -> None:
        self._launcher = launcher
        self.database = database
        self.port = ports.get_port()
        self._executable = executable
        self._log = directory / f"storage_controller-{next(_serial)}.log"
        self._arguments = list(arguments)
        self.environment = dict(environment or {})
        self.names_database = True
        """Whether the command line does; else `environment` has to."""
        self._stack = ExitStack()
        self.controller: Process | None = None
        self.deaths = 0
        """How often `revive` found it dead."""
        self.api = Api(lambda: self.port)
        self._connection: psycopg.Connection[Any] | None = None
        self._connection_lock = threading.Lock()
        self.control_plane = ControlPlane()
        self.tells_control_plane = control_plane
        self.remote = RemoteStorage()
        self.generations: dict[str, list[int]] = {}
        """By shard: the generations that pageservers were given, in order."""
        self._holders: dict[tuple[str, int], int] = {}
        self.violations: list[str] = []
        """What must never have happened, in words."""
        self.nodes = [
            FakePageserver(
                number,
                self.remote,
                self.api,
                availability_zone=zones[(number - 1) % len(zones)],
                runs_imports=runs_imports,
            )
            for number in range(1, nodes + 1)
        ]
        for node in self.nodes:
            node.on_generation = partial(self._on_generation, node.id)

    def __enter__(self) -> Self:
        self._stack.callback(self._disconnect)
        self._stack.callback(self.control_plane.close)
        self._stack.callback(self.kill_controller)
        for node in self.nodes:
            self._stack.callback(node.kill)
        self.start_controller()
        for node in self.nodes:
            node.start()
        self.wait_active(*self.nodes)
        return self

    def close(self) -> None:
        """Stops everything; what comes after is a new cloud."""
        self._stack.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def query(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows of the controller's database."""
        return self._run(lambda connection: connection.execute(statement.encode(), parameters).fetchall())

    def execute(self, statement: str, *parameters: object) -> None:
        """Changes the controller's database behind its back."""
        self._run(lambda connection: connection.execute(statement.encode(), parameters))

    def _run(self, action: Callable[[psycopg.Connection[Any]], T]) -> T:
        with self._connection_lock:
            for last in (False, True):
                if self._connection is None or self._connection.closed:
                    self._connection = psycopg.connect(self.database.url, autocommit=True, connect_timeout=10)
                try:
                    return action(self._connection)
                except psycopg.OperationalError:
                    # The server may have been restarted since the last time.
                    self._connection.close()
                    if last:
                        raise
            raise AssertionError("unreachable")

    def _disconnect(self) -> None:
        with self._connection_lock:
            if self._connection is not None:
                self._connection.close()

    # The controller's process

    def argv(self) -> list[str]:
        argv = [
            str(self._executable),
            *("--listen", f"127.0.0.1:{self.port}"),
            *(("--database-url", self.database.url) if self.names_database else ()),
            "--dev",
            *("--heartbeat-interval", HEARTBEAT),
            *("--max-offline-interval", MAX_OFFLINE),
            *("--max-warming-up-interval", "5s"),
            "--use-local-compute-notifications=false",
            *("--address-for-peers", f"http://127.0.0.1:{self.port}/"),
        ]
        if self.tells_control_plane:
            argv += ["--control-plane-url", self.control_plane.url]
        return [*argv, *self._arguments]

    def launch_controller(self) -> Process:
        """Starts it without waiting for anything."""
        self.controller = self._launcher.start(
            "storage_controller",
            self.argv(),
            log_path=self._log,
            env={**os.environ, **self.environment},
        )
        return self.controller

    def start_controller(self) -> None:
        """Starts it and waits until it is ready."""
        process = self.launch_controller()
        self.wait(lambda: probe(self.port, "/ready") == 200, "the controller to be ready", alive=process)

    def kill_controller(self) -> None:
        if self.controller is not None:
            self.controller.kill()
            self.controller.wait(10)
            self.controller = None

    def restart_controller(self) -> None:
        """kill -9 and start."""
        self.kill_controller()
        self.start_controller()

    def revive(self) -> None:
        """Starts it again if it is down. Raises AssertionError if it died, and not of a failpoint."""
        process = self.controller
        if process is None or not process.is_running():
            assert process is None or process.returncode == 1, process
            self.deaths += process is not None
            self.environment.pop("FAILPOINTS", None)
            self.start_controller()

    # Waiting

    def until(self, condition: Callable[[], object], what: str) -> Any:
        """As `wait`, whatever happens to the controller meanwhile: who gets no answer starts it again."""

        def once() -> object:
            self.revive()
            return condition()

        return self.wait(once, what, alive=())

    def wait(
        self,
        condition: Callable[[], object],
        what: str,
        *,
        timeout: float = TIMEOUT,
        alive: Process | Sequence[Process] | None = None,
    ) -> Any:
        if alive is None:
            alive = [] if self.controller is None else [self.controller]
        return wait_for(
            lambda: condition() or None, what=what, timeout=timeout, alive=alive, ignore=(NoAnswer, Refused)
        )

    def wait_active(self, *nodes: FakePageserver) -> None:
        for node in nodes:
            path = f"/control/v1/node/{node.id}"
            self.wait(
                lambda path=path: self.api.ok("GET", path)["availability"] == "Active",  # type: ignore[misc]
                f"node {node.id} to be active",
            )

    def wait_idle(self) -> None:
        """Until every shard is where it should be."""
        self.wait(lambda: self.api.ok("POST", "/debug/v1/reconcile_all") == 0, "nothing to reconcile")

    # Tenants and imports

    def create_tenant(self, *, shards: int = 0, policy: Any = None, tenant: str | None = None) -> str:
        tenant = tenant or uuid.uuid4().hex
        body: dict[str, Any] = {"new_tenant_id": tenant}
        if shards:
            body["shard_parameters"] = {"count": shards, "stripe_size": 2048}
        if policy is not None:
            body["placement_policy"] = policy
        self.api.ok("POST", "/v1/tenant", body)
        self.wait_idle()
        return tenant

    def import_body(self, timeline: str, key: str = "key") -> dict[str, Any]:
        return {
            "new_timeline_id": timeline,
            "import_pgdata": {"idempotency_key": key, "location": {"LocalFs": {"path": "/bucket"}}},
        }

    def create_import(self, tenant: str, timeline: str | None = None, key: str = "key") -> str:
        timeline = timeline or uuid.uuid4().hex
        self.api.ok("POST", f"/v1/tenant/{tenant}/timeline", self.import_body(timeline, key))
        return timeline

    def shards(self, tenant: str) -> list[str]:
        rows = self.query(
            "SELECT shard_number, shard_count FROM tenant_shards WHERE tenant_id = %s ORDER BY 1", tenant
        )
        return [tenant if count == 0 else f"{tenant}-{number:02x}{count:02x}" for number, count in rows]

    def issued(self, shard: str) -> tuple[int | None, int | None]:
        """Generation and node, as the database has them."""
        number, count = (int(shard[33:35], 16), int(shard[35:], 16)) if len(shard) > 32 else (0, 0)
        rows = self.query(
            "SELECT generation, generation_pageserver FROM tenant_shards"
            " WHERE tenant_id = %s AND shard_number = %s AND shard_count = %s",
            *(shard[:32], number, count),
        )
        return rows[0] if rows else (None, None)

    def report(
        self, shard: str, timeline: str, status: Any, generation: int | None = None
    ) -> tuple[int, Any]:
        """POSTs a shard's status, in the current generation unless another is given."""
        if generation is None:
            generation = self.issued(shard)[0]
        body = {
            "tenant_shard_id": shard,
            "timeline_id": timeline,
            "status": status,
            "generation": generation,
        }
        return self.api.call("POST", "/upcall/v1/timeline_import_status", body)

    def fetch(self, shard: str, timeline: str, generation: int | None = None) -> tuple[int, Any]:
        """GETs a shard's status."""
        if generation is None:
            generation = self.issued(shard)[0]
        body = {"tenant_shard_id": shard, "timeline_id": timeline, "generation": generation}
        return self.api.call("GET", "/upcall/v1/timeline_import_status", body)

    def statuses(self, tenant: str, timeline: str) -> dict[str, Any] | None:
        """The recorded statuses; None if the import is not recorded."""
        rows = self.query(
            "SELECT shard_statuses FROM timeline_imports WHERE tenant_id = %s AND timeline_id = %s",
            tenant,
            timeline,
        )
        return rows[0][0] if rows else None

    def told(self, timeline: str) -> list[str | None]:
        """What the control plane took of an import: None for success."""
        return [
            call.error
            for call in self.control_plane.import_complete_calls
            if str(call.timeline_id) == timeline and call.status < 300
        ]

    def wait_told(self, timeline: str, timeout: float = TIMEOUT) -> str | None:
        """Until the control plane was told and the row is gone."""
        self.wait(lambda: self.told(timeline), f"the control plane to hear of {timeline}", timeout=timeout)
        self.wait(
            lambda: not self.query("SELECT 1 FROM timeline_imports WHERE timeline_id = %s", timeline),
            f"the row of {timeline} to go",
            timeout=timeout,
        )
        return self.told(timeline)[0]

    def set_policy(self, tenant: str, placement: Any) -> None:
        self.api.ok("PUT", f"/control/v1/tenant/{tenant}/policy", {"placement": placement})

    def failpoint(self, name: str, actions: str) -> None:
        self.api.ok("PUT", "/debug/v1/failpoints", [{"name": name, "actions": actions}])

    def node(self, node_id: int) -> FakePageserver:
        return self.nodes[node_id - 1]

    def _on_generation(self, node: int, shard: str, generation: int) -> None:
        """Generations are durable before use, never go back, and belong to one node each."""
        recorded = self.issued(shard)[0]
        if max(self.generations.get(shard, [0])) > generation:
            self.violations.append(f"{shard}: generation {generation} comes after {self.generations[shard]}")
        if recorded is None or recorded < generation:
            self.violations.append(
                f"{shard} was given generation {generation} while the database has {recorded}"
            )
        holder = self._holders.setdefault((shard, generation), node)
        if holder != node:
            self.violations.append(
                f"{shard}: nodes {holder} and {node} were both given generation {generation}"
            )
        self.generations.setdefault(shard, []).append(generation)
