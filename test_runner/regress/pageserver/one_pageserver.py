"""One real pageserver process with a remote storage directory and a controller that a test scripts."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from reattach.api.ids import TenantShardId, TimelineId
from reattach.fixtures.env.engines import scripts_dir
from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.processes import Launcher, Process, wait_for
from test_runner.regress.pageserver.scripted_controller import FakeController

Json = Any

START_SECONDS = 20.0
IMPORT_CONFIG = {
    "import_job_concurrency": 4,
    "import_job_soft_size_limit": 128 * 1024,
    "import_job_checkpoint_threshold": 2,
    "import_job_max_byte_range_size": 1024 * 1024,
}


def toml_value(value: Json) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml_value(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)


@dataclass
class PageserverProcess:
    """A pageserver below `workdir`. Restarting it keeps its disk."""

    launcher: Launcher
    controller: FakeController
    workdir: Path
    http_port: int
    pg_port: int
    node_id: int = 1
    config: dict[str, Json] = field(default_factory=dict)
    process: Process | None = None
    session: requests.Session = field(default_factory=requests.Session)

    @classmethod
    def create(
        cls,
        launcher: Launcher,
        controller: FakeController,
        ports: PortDistributor,
        directory: Path,
        *,
        node_id: int = 1,
        **config: Json,
    ) -> PageserverProcess:
        """Writes the working directory. `config` replaces keys of pageserver.toml; None leaves one out."""
        workdir = directory / f"pageserver_{node_id}"
        workdir.mkdir(parents=True)
        server = cls(launcher, controller, workdir, ports.get_port(), ports.get_port(), node_id)
        server.config = {
            "listen_http_addr": f"127.0.0.1:{server.http_port}",
            "listen_pg_addr": f"127.0.0.1:{server.pg_port}",
            "control_plane_api": controller.url,
            "remote_storage": {"local_path": str(directory / "remote")},
            "timeline_import_config": IMPORT_CONFIG,
            "no_sync": True,
        }
        server.configure(**config)
        (workdir / "identity.toml").write_text(f"id = {node_id}\n")
        return server

    def configure(self, **config: Json) -> None:
        self.config |= config
        lines = [f"{key} = {toml_value(value)}" for key, value in self.config.items() if value is not None]
        (self.workdir / "pageserver.toml").write_text("\n".join(lines) + "\n")

    # Life

    @property
    def log_path(self) -> Path:
        return self.workdir / "pageserver.log"

    @property
    def running(self) -> Process:
        assert self.process is not None, "the pageserver was not started"
        return self.process

    def spawn(self, env: Mapping[str, str] | None = None) -> Process:
        """Starts the process and does not wait for anything."""
        program = scripts_dir() / "pageserver"
        self.process = self.launcher.start(
            f"pageserver {self.node_id}",
            [program, "-D", self.workdir],
            log_path=self.log_path,
            env={**os.environ, **(env or {})},
        )
        return self.process

    def start(self, env: Mapping[str, str] | None = None) -> PageserverProcess:
        process = self.spawn(env)
        wait_for(
            self._answers,
            what="an answer of the pageserver",
            timeout=START_SECONDS,
            alive=process,
            ignore=(requests.ConnectionError,),
        )
        return self

    def _answers(self) -> bool:
        return self.request("GET", "/v1/status").status_code == 200

    def kill(self) -> None:
        self.running.kill()
        self.running.wait(10)

    def stop(self) -> int:
        self.running.send_signal(signal.SIGTERM)
        return self.running.wait(20)

    def wipe_disk(self) -> None:
        for name in ("tenants", "deletion"):
            shutil.rmtree(self.workdir / name, ignore_errors=True)

    # Log

    def log_lines(self, pattern: str) -> list[str]:
        return [line for line in self.log_path.read_text().splitlines() if re.search(pattern, line)]

    def wait_log(self, pattern: str, count: int = 1) -> None:
        wait_for(
            lambda: len(self.log_lines(pattern)) >= count,
            what=f"{count} log lines like {pattern!r}",
            timeout=20,
            alive=self.running,
        )

    # HTTP

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.session.request(method, f"http://127.0.0.1:{self.http_port}{path}", timeout=40, **options)

    def call(self, method: str, path: str, body: Json = None, *, expect: int = 200) -> Json:
        """The JSON answer; fails unless the status is `expect`."""
        response = self.request(method, path, json=body) if body is not None else self.request(method, path)
        assert response.status_code == expect, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    def location(
        self,
        tenant: TenantShardId,
        mode: str,
        generation: int | None = None,
        *,
        query: str = "",
        expect: int = 200,
        **conf: Json,
    ) -> Json:
        body = {
            "mode": mode,
            "generation": generation,
            "secondary_conf": {"warm": True} if mode == "Secondary" else None,
            "shard_number": tenant.shard_number,
            "shard_count": tenant.shard_count,
            "shard_stripe_size": 2048,
            "tenant_conf": {},
        } | conf
        return self.call("PUT", f"/v1/tenant/{tenant}/location_config{query}", body, expect=expect)

    def attach(self, tenant: TenantShardId, mode: str = "AttachedSingle") -> int:
        """Attaches in the next generation, which the controller then thinks is current."""
        generation = self.controller.next_generation(str(tenant), mode)
        self.location(tenant, mode, generation)
        return generation

    def detach(self, tenant: TenantShardId) -> None:
        self.location(tenant, "Detached")

    def create_import(
        self,
        tenant: TenantShardId,
        timeline: TimelineId,
        bucket: Path,
        *,
        key: str = "key",
        expect: int = 201,
        insert_row: bool = True,
    ) -> Json:
        """Creates the timeline, then the controller's row."""
        body = {
            "new_timeline_id": str(timeline),
            "import_pgdata": {"location": {"LocalFs": {"path": str(bucket)}}, "idempotency_key": key},
        }
        answer = self.call("POST", f"/v1/tenant/{tenant}/timeline", body, expect=expect)
        if insert_row:
            self.controller.expect_import(str(tenant), str(timeline))
        return answer

    def recorded(self, tenant: TenantShardId, timeline: TimelineId) -> Json:
        with self.controller.lock:
            return self.controller.imports.get((str(tenant), str(timeline)))

    def wait_recorded(self, tenant: TenantShardId, timeline: TimelineId, status: Json = "Done") -> None:
        wait_for(
            lambda: self.recorded(tenant, timeline) == status,
            what=f"import status {status}",
            timeout=30,
            alive=self.running,
        )

    def activate(self, tenant: TenantShardId, timeline: TimelineId) -> Json:
        """Calls activate_post_import until it succeeds, as the controller does."""
        path = f"/v1/tenant/{tenant}/timeline/{timeline}/activate_post_import"

        def activated() -> Json:
            response = self.request("PUT", path)
            assert response.status_code in (200, 404, 503), response.text
            return response.json() if response.status_code == 200 else None

        return wait_for(activated, what="activation", timeout=20, alive=self.running)

    def import_and_activate(self, tenant: TenantShardId, timeline: TimelineId, bucket: Path) -> Json:
        self.create_import(tenant, timeline, bucket)
        self.wait_recorded(tenant, timeline)
        return self.activate(tenant, timeline)

    def failpoint(self, name: str, actions: str) -> None:
        self.call("PUT", "/v1/failpoints", [{"name": name, "actions": actions}])

    def get_page(self, tenant: TenantShardId, timeline: TimelineId, key: object) -> bytes:
        answer = self.call("GET", f"/v1/tenant/{tenant}/timeline/{timeline}/getpage?key={key}")
        return bytes(answer["page"])

    def timeline_dir(self, tenant: TenantShardId, timeline: TimelineId) -> Path:
        return self.workdir / "tenants" / str(tenant) / "timelines" / str(timeline)

    def metric(self, name: str) -> float:
        """The sum of a metric's values over all labels."""
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", self.request("GET", "/metrics").text, re.M)
        assert found, f"no metric {name}"
        return sum(map(float, found))
