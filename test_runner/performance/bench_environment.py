"""How long an environment takes until a test can use it, and a killed server until it answers again."""

from __future__ import annotations

import time
from unittest.mock import patch

from reattach.api.effects import Front
from reattach.fixtures.env.service import Service
from reattach.fixtures.env.wiring import Wiring
from reattach.fixtures.pageserver.server import NeonPageserver
from reattach.fixtures.storage_controller.server import NeonStorageController
from test_runner.performance.lab import Lab
from test_runner.performance.result import Result, Side, as_long_as, at_most, single

MAX_READY_SECONDS = 1.0
MAX_RESTART_SECONDS = 0.25
MAX_WITNESSED_RATIO = 1.3

ENVIRONMENTS = 15
RESTARTS = 21


def ready(lab: Lab) -> list[Result]:
    """Database, controller, one pageserver, bucket, and a tenant; not the first environment of a run."""
    _ = lab.bucket
    with lab.environment():
        pass  # the first of a run makes the database that the others clone
    through, direct = [], []
    for _ in lab.runs(ENVIRONMENTS):
        through.append(_ready(lab))
        with patch("reattach.fixtures.env.env.Wiring", _Direct):
            direct.append(_ready(lab))
    side = Side("environment", "s", tuple(through))
    without = Side("without proxies", "s", tuple(direct))
    return [
        single("environment ready", side, at_most(MAX_READY_SECONDS, "s")),
        as_long_as(
            "environment ready, everything witnessed", side, without, at_most(MAX_WITNESSED_RATIO, "×")
        ),
    ]


def _ready(lab: Lab) -> float:
    with lab.builder() as builder:
        began = time.perf_counter()
        builder.init_start()
        return time.perf_counter() - began


class _Direct(Wiring):
    """Nothing lies between the processes; only the mock S3 is a witness."""

    def _listen(self, front: Front, actor: str, peer: str, port: int) -> int:
        return port


def restart(lab: Lab) -> list[Result]:
    """kill -9, start, first answer; for the pageserver also: Active at the controller, which has noticed."""
    results = []
    with lab.environment() as env:
        for server in (env.pageserver, env.storage_controller):
            seconds = [_restart(server) for _ in lab.runs(RESTARTS)]
            side = Side(server.name, "s", tuple(seconds))
            name = server.name.rstrip("_1").replace("_", " ")
            results.append(single(f"{name} killed → answers", side, at_most(MAX_RESTART_SECONDS, "s")))
    return results


def _restart(server: Service) -> float:
    assert isinstance(server, NeonPageserver | NeonStorageController)
    began = time.perf_counter()
    server.kill()
    server.start()
    return time.perf_counter() - began
