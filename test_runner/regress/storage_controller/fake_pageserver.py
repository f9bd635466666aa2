"""Pageservers as far as a storage controller can see them: locations, generations, imports. No data.

They keep the rule that matters: what a location writes is kept under its generation, and a location that is
attached reads only what generations up to its own have written before.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from reattach.api import codec
from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.lsn import Lsn
from reattach.api.timeline import TimelineInfo
from reattach.fixtures.json_server import Asked, JsonServer
from test_runner.regress.storage_controller.api import Api
from test_runner.regress.storage_controller.import_task import ImportTask
from test_runner.regress.storage_controller.remote_storage import IndexedTimeline, RemoteStorage

Answer = tuple[int, Any]
Request = tuple[str, str]
"""Method and path, with its query."""


@dataclass
class Location:
    """An attached location. `running`: timelines whose import task has not ended."""

    conf: dict[str, Any]
    timelines: dict[str, IndexedTimeline]
    running: set[str] = field(default_factory=set)

    @property
    def generation(self) -> int:
        return int(self.conf["generation"])


@dataclass(frozen=True)
class Fault:
    """Answers the next `times` requests whose `METHOD path` matches with `status`; None: hangs up."""

    pattern: str
    status: int | None
    times: int = 1


class FakePageserver:
    """One node. `runs_imports`: import tasks report to the controller and end by themselves."""

    def __init__(
        self,
        node_id: int,
        remote: RemoteStorage,
        controller: Api,
        *,
        availability_zone: str = "az-1",
        runs_imports: bool = False,
        jobs: int = 4,
    ) -> None:
        self.id = node_id
        self.remote = remote
        self.controller = controller
        self.availability_zone = availability_zone
        self.runs_imports = runs_imports
        self.jobs = jobs
        self.locations: dict[str, dict[str, Any]] = {}
        """The location of every shard that is not detached, as configured."""
        self.attached: dict[str, Location] = {}
        self.requests: list[Request] = []
        self.on_generation: Callable[[str, int], None] = lambda shard, generation: None
        """Called with each generation that the controller issues to this node."""
        self.errors: list[str] = []
        """What went wrong in callbacks and import tasks."""
        self.stays_running: set[str] = set()
        """Timelines whose import task does not exit although it is done."""
        self.lsn = Lsn(16)
        """How much WAL its visible timelines have."""
        self._faults: list[list[Any]] = []
        self._lock = threading.RLock()
        self._gates: dict[str, threading.Event] = {}
        self._server: JsonServer | None = None
        self._epoch = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def register_body(self) -> dict[str, Any]:
        return {
            "node_id": self.id,
            "listen_pg_addr": "127.0.0.1",
            "listen_pg_port": 1,
            "listen_http_addr": "127.0.0.1",
            "listen_http_port": self.port,
            "availability_zone_id": self.availability_zone,
        }

    def start(self) -> None:
        """Listens, re-attaches, and then serves. Raises NoAnswer, Refused; it is not started then."""
        server = JsonServer(self._answer, f"pageserver {self.id}", self.port)
        self.port = server.port
        try:
            answer = self.controller.ok(
                "POST", "/upcall/v1/re-attach", {"node_id": self.id, "register": self.register_body()}
            )
        except Exception:
            server.close()
            raise
        with self._lock:
            self._server = server
            self._re_attached(answer["tenants"])
        server.start()

    def restart(self) -> None:
        """Dies and comes back. Raises like `start`."""
        self.kill()
        self.start()

    def kill(self) -> None:
        """Answers nothing more. What is on its disk stays."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        with self._lock:
            self._epoch += 1
            self.attached.clear()

    def inject(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append([re.compile(fault.pattern), fault.status, fault.times])

    def mend(self) -> None:
        """Ends every fault."""
        with self._lock:
            self._faults.clear()

    def hold(self, pattern: str) -> threading.Event:
        """Requests that match get no answer until the returned event is set."""
        gate = threading.Event()
        with self._lock:
            self._gates[pattern] = gate
        return gate

    def calls(self, pattern: str) -> list[Request]:
        """The requests so far whose `METHOD path` matches."""
        with self._lock:
            return [r for r in self.requests if re.search(pattern, f"{r[0]} {r[1]}")]

    def finish_task(self, shard: str, timeline: str) -> None:
        """The import task of an attached location exits."""
        with self._lock:
            if shard in self.attached:
                self.attached[shard].running.discard(timeline)

    def _re_attached(self, tenants: list[dict[str, Any]]) -> None:
        known = {entry["id"]: entry for entry in tenants}
        for shard in list(self.locations):
            entry = known.get(shard)
            if entry is None:
                del self.locations[shard]
            elif entry["mode"] == "Secondary":
                self.locations[shard] |= {"mode": "Secondary", "generation": None}
            else:
                self.on_generation(shard, entry["gen"])
                self._attach(
                    shard, {**self.locations[shard], "mode": entry["mode"], "generation": entry["gen"]}
                )

    def _attach(self, shard: str, conf: dict[str, Any]) -> None:
        location = Location(conf, self.remote.load(shard, int(conf["generation"])))
        self.locations[shard] = conf
        self.attached[shard] = location
        for timeline, indexed in location.timelines.items():
            if not indexed.imported:
                self._start_import(shard, location, timeline)

    def _start_import(self, shard: str, location: Location, timeline: str) -> None:
        location.running.add(timeline)
        if self.runs_imports:
            task = ImportTask(self, shard, location, timeline, self._epoch)
            threading.Thread(target=task.run, name=f"import {shard}", daemon=True).start()

    def is_current(self, shard: str, location: Location, epoch: int) -> bool:
        with self._lock:
            return self._epoch == epoch and self.attached.get(shard) is location

    def _answer(self, asked: Asked) -> tuple[int, bytes] | None:
        try:
            answer = self.handle(asked.method, asked.target, asked.body)
        except Exception as e:  # noqa: BLE001
            self.errors.append(f"{asked.method} {asked.target}: {e!r}")
            answer = 500, {"msg": repr(e)}
        return None if answer is None else (answer[0], json.dumps(answer[1]).encode())

    def handle(self, method: str, target: str, body: bytes) -> Answer | None:
        """None: no answer at all."""
        gate: threading.Event | None = None
        with self._lock:
            self.requests.append((method, target))
            line = f"{method} {target}"
            for fault in self._faults:
                if fault[2] > 0 and fault[0].search(line):
                    fault[2] -= 1
                    return None if fault[1] is None else (fault[1], {"msg": "injected"})
            gate = next((g for pattern, g in self._gates.items() if re.search(pattern, line)), None)
        if gate is not None:
            gate.wait(30)
        with self._lock:
            if self._server is None:
                return None
            return self._route(method, target.partition("?")[0], json.loads(body) if body else None)

    def _route(self, method: str, path: str, body: Any) -> Answer:
        parts = path.strip("/").split("/")[1:]
        match (method, parts):
            case ("GET", ["utilization"]):
                return 200, {"utilization_score": len(self.locations)}
            case ("GET", ["location_config"]):
                return 200, {"tenant_shards": list(self.locations.items())}
            case ("GET", ["location_config", shard]):
                found = self.locations.get(shard)
                return (404, {"msg": "NotFound"}) if found is None else (200, found)
            case ("PUT", ["tenant", shard, "location_config"]):
                return self._configure(shard, body)
            case ("GET", ["tenant", shard]) if shard in self.attached:
                return 200, {"id": shard, "generation": self.attached[shard].generation}
            case ("DELETE", ["tenant", tenant]):
                for shard in [s for s in self.remote.indices if s.startswith(tenant)]:
                    del self.remote.indices[shard]
                return 200, None
            case ("POST", ["tenant", shard, "secondary", "download"]):
                return (200, {}) if shard in self.locations else (404, {"msg": "NotFound: Shard not found"})
            case (_, ["tenant", shard, *rest]) if shard in self.attached:
                return self._timelines(method, shard, self.attached[shard], rest, body)
        status = 412 if method == "DELETE" else 404
        return status, {"msg": f"NotFound: tenant {parts[1] if len(parts) > 1 else ''}"}

    def _configure(self, shard: str, conf: dict[str, Any]) -> Answer:
        generation = conf["generation"]
        if conf["mode"] == "Detached":
            self.locations.pop(shard, None)
            self.attached.pop(shard, None)
        elif conf["mode"] == "Secondary":
            self.attached.pop(shard, None)
            self.locations[shard] = conf
        else:
            self.on_generation(shard, generation)
            present = self.attached.get(shard)
            if present is not None and generation < present.generation:
                return 400, {"msg": "Generation is less than existing"}
            if present is not None and generation == present.generation:
                present.conf = conf
                self.locations[shard] = conf
            else:
                self._attach(shard, conf)
        return 200, {"shards": [], "stripe_size": None}

    def _timelines(self, method: str, shard: str, location: Location, rest: list[str], body: Any) -> Answer:
        match (method, rest):
            case ("GET", ["timeline"]):
                visible = [t for t, indexed in location.timelines.items() if indexed.imported]
                return 200, [codec.to_builtins(_info(shard, t, self.lsn)) for t in visible]
            case ("POST", ["timeline"]):
                return self._create(shard, location, body)
            case ("POST", ["wait_lsn"]):
                self.lsn = Lsn(16)
                return 200, None
            case ("GET", ["timeline", timeline]):
                indexed = location.timelines.get(timeline)
                if indexed is not None and indexed.imported:
                    return 200, codec.to_builtins(_info(shard, timeline))
            case ("DELETE", ["timeline", timeline]):
                if location.timelines.pop(timeline, None) is None:
                    return 404, {"msg": "NotFound: timeline not found"}
                location.running.discard(timeline)
                self.remote.store(shard, location.generation, location.timelines)
                return 202, None
            case ("PUT", ["timeline", timeline, "activate_post_import"]):
                return self._activate(shard, location, timeline)
        return 404, {"msg": f"NotFound: {'/'.join(rest)}"}

    def _create(self, shard: str, location: Location, body: dict[str, Any]) -> Answer:
        timeline = body["new_timeline_id"]
        pgdata = body.get("import_pgdata")
        key = pgdata["idempotency_key"] if pgdata else ""
        present = location.timelines.get(timeline)
        if timeline in location.running:
            return 429, {"msg": "creation of timeline with the given ID is in progress"}
        if present is not None and present.idempotency_key != key:
            return 409, {"msg": "timeline already exists with different parameters"}
        if present is None:
            location.timelines[timeline] = IndexedTimeline(key, imported=pgdata is None)
            self.remote.store(shard, location.generation, location.timelines)
            if pgdata is not None:
                self._start_import(shard, location, timeline)
        return 201, codec.to_builtins(_info(shard, timeline))

    def _activate(self, shard: str, location: Location, timeline: str) -> Answer:
        present = location.timelines.get(timeline)
        if present is None:
            return 404, {"msg": f"NotFound: Timeline {shard}/{timeline} was not found"}
        if timeline in location.running and (self.runs_imports or timeline in self.stays_running):
            return 503, {"msg": "Import task still running"}
        location.running.discard(timeline)
        location.timelines[timeline] = IndexedTimeline(present.idempotency_key, imported=True)
        self.remote.store(shard, location.generation, location.timelines)
        return 200, codec.to_builtins(_info(shard, timeline))


def _info(shard: str, timeline: str, lsn: Lsn | None = None) -> TimelineInfo:
    zero = Lsn(0)
    return TimelineInfo(
        tenant_id=TenantShardId.parse(shard),
        timeline_id=TimelineId(timeline),
        last_record_lsn=lsn or zero,
        prev_record_lsn=None,
        applied_gc_cutoff_lsn=zero,
        min_readable_lsn=zero,
        disk_consistent_lsn=zero,
        remote_consistent_lsn=zero,
        remote_consistent_lsn_visible=zero,
        initdb_lsn=zero,
        current_logical_size=0,
        current_logical_size_is_accurate=False,
        pg_version=16,
        state="Loading",
    )
