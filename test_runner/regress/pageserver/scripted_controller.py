"""A storage controller that exists only as far as one pageserver can see: its upcall API, on canned data."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from reattach.fixtures.json_server import Asked, JsonServer

Json = Any
Key = tuple[str, str]


@dataclass(frozen=True)
class Upcall:
    """A request that arrived. `name`: the last part of its path."""

    method: str
    name: str
    body: Json
    authorization: str | None


@dataclass
class FakeController:
    """Test and server threads share it; change it under `lock`, or through its methods.

    attached: generation and mode by tenant shard, as re-attach answers and validate compares.
    imports: the recorded status by (tenant shard, timeline).
    answers: a (status, body) that replaces the next real answer to a call of that name.
    """

    lock: threading.RLock = field(default_factory=threading.RLock)
    attached: dict[str, tuple[int, str]] = field(default_factory=dict)
    imports: dict[Key, Json] = field(default_factory=dict)
    calls: list[Upcall] = field(default_factory=list)
    answers: dict[str, list[tuple[int, Json]]] = field(default_factory=dict)
    port: int = 0
    is_reachable: bool = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/upcall/v1/"

    def called(self, name: str, method: str = "POST") -> list[Upcall]:
        with self.lock:
            return [call for call in self.calls if (call.method, call.name) == (method, name)]

    def expect_import(self, tenant: str, timeline: str, status: Json = None) -> None:
        """What inserting the row of an import does."""
        with self.lock:
            self.imports[tenant, timeline] = {"InProgress": None} if status is None else status

    def next_generation(self, tenant: str, mode: str = "AttachedSingle") -> int:
        with self.lock:
            generation = self.attached.get(tenant, (0, ""))[0] + 1
            self.attached[tenant] = (generation, mode)
            return generation

    def detach(self, tenant: str) -> None:
        with self.lock:
            self.attached.pop(tenant, None)

    def handle(self, call: Upcall) -> tuple[int, Json]:
        with self.lock:
            self.calls.append(call)
            if not self.is_reachable:
                return 503, {"msg": "away"}
            if self.answers.get(call.name):
                return self.answers[call.name].pop(0)
            match call.name, call.method:
                case "re-attach", "POST":
                    return 200, {"tenants": self._re_attach()}
                case "validate", "POST":
                    return 200, {"tenants": self._validate(call.body["tenants"])}
                case "timeline_import_status", method:
                    return self._import_status(method, call.body)
            return 404, {"msg": "no such upcall"}

    def _re_attach(self) -> list[Json]:
        tenants = []
        for tenant, (generation, mode) in self.attached.items():
            attached = mode.startswith("Attached")
            if attached:
                generation += 1
                self.attached[tenant] = (generation, mode)
            gen = generation if attached else None
            tenants.append({"id": tenant, "gen": gen, "mode": mode, "stripe_size": 2048})
        return tenants

    def _validate(self, tenants: list[Json]) -> list[Json]:
        known = [each for each in tenants if each["id"] in self.attached]
        return [{"id": each["id"], "valid": self.attached[each["id"]][0] == each["gen"]} for each in known]

    def _import_status(self, method: str, body: Json) -> tuple[int, Json]:
        key = (body["tenant_shard_id"], body["timeline_id"])
        if self.attached.get(key[0], (None, ""))[0] != body["generation"]:
            return (400 if method == "GET" else 412), {"msg": "Invalid generation"}
        if key not in self.imports:
            return 404, {"msg": "NotFound: import not found"}
        recorded = self.imports[key]
        if method == "GET":
            return 200, recorded
        terminal = recorded == "Done" or "Error" in recorded
        if terminal and body["status"] != recorded:
            return 500, {"msg": "Update request is unexpected"}
        self.imports[key] = body["status"]
        return 200, None


@contextmanager
def serve_controller() -> Iterator[FakeController]:
    controller = FakeController()

    def answer(asked: Asked) -> tuple[int, bytes]:
        name = asked.target.rpartition("/")[2]
        body = json.loads(asked.body or "null")
        call = Upcall(asked.method, name, body, asked.headers.get("authorization"))
        status, said = controller.handle(call)
        return status, json.dumps(said).encode()

    server = JsonServer(answer, "controller").start()
    controller.port = server.port
    try:
        yield controller
    finally:
        server.close()
