"""What is named kill is kill -9, seen from outside: by the return code, also of a process that hangs."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import psutil
import pytest

from reattach.fixtures.env.env import NeonEnv
from reattach.fixtures.env.service import STOP_TIMEOUT_SECONDS, Service
from reattach.fixtures.imports.bucket import ImportBucket
from reattach.fixtures.imports.handle import ImportTimeline, after_job
from reattach.fixtures.processes import Process, ProcessError
from reattach.fixtures.vanilla_postgres import VanillaPostgres

Kill = Callable[[ImportTimeline], Service]


def restart_killed(timeline: ImportTimeline) -> Service:
    """The process that it killed is no longer the pageserver's; the test has kept it."""
    timeline.restart_killed()
    return timeline.env.pageserver


KILLS: list[Kill] = [ImportTimeline.kill, restart_killed, ImportTimeline.kill_controller]


@pytest.mark.parametrize("hangs", [False, True], ids=["running", "hanging"])
@pytest.mark.parametrize("kill", KILLS, ids=["kill", "restart_killed", "kill_controller"])
def test_a_kill_is_sigkill(
    neon_simple_env: NeonEnv, import_bucket: ImportBucket, kill: Kill, hangs: bool
) -> None:
    env = neon_simple_env
    timeline = env.start_import(import_bucket, hold=after_job(1))
    timeline.wait_at(after_job(1))
    is_controller = kill is ImportTimeline.kill_controller
    victim = (env.storage_controller if is_controller else env.pageserver).process
    assert victim is not None
    begin = len(victim.log_path.read_bytes())
    if hangs:
        victim.send_signal(signal.SIGSTOP)

    began = time.monotonic()
    service = kill(timeline)

    assert victim.returncode == -signal.SIGKILL
    assert time.monotonic() - began < STOP_TIMEOUT_SECONDS / 2
    assert service.death() is None
    if kill is not restart_killed:
        assert not service.running
        said = victim.log_path.read_bytes()[begin:].decode()
        assert "signal" not in said.lower() and "stopp" not in said.lower(), "it had no time for words"


@pytest.mark.parametrize(
    "end",
    [ImportTimeline.kill, ImportTimeline.terminate, ImportTimeline.quit, ImportTimeline.kill_controller],
)
def test_nobody_is_killed_twice(neon_simple_env: NeonEnv, import_bucket: ImportBucket, end: Kill) -> None:
    """A kill that would kill nobody is an error, and no interruption."""
    timeline = neon_simple_env.start_import(import_bucket, hold=after_job(1))
    timeline.wait_at(after_job(1))
    end(timeline)
    interruptions = list(timeline.interruptions)
    with pytest.raises(ProcessError, match=r"is down since this test (killed|stopped) it .*\d\.\d s ago"):
        end(timeline)
    assert timeline.interruptions == interruptions


@pytest.mark.parametrize(
    ("end", "code"), [(ImportTimeline.terminate, 0), (ImportTimeline.quit, 111)], ids=["terminate", "quit"]
)
def test_other_ends_have_their_own_codes(
    neon_simple_env: NeonEnv, import_bucket: ImportBucket, end: Kill, code: int
) -> None:
    timeline = neon_simple_env.start_import(import_bucket, hold=after_job(1))
    timeline.wait_at(after_job(1))
    process = end(timeline).process
    assert process is not None and process.returncode == code


@pytest.mark.parametrize("hangs", [False, True], ids=["running", "hanging"])
def test_postgres_is_killed_with_its_children(vanilla_pg: VanillaPostgres, hangs: bool) -> None:
    vanilla_pg.start()
    process = vanilla_pg.server.process
    assert isinstance(process, Process)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    for victim in [*family, psutil.Process(process.pid)] if hangs else []:
        victim.suspend()
    vanilla_pg.server.kill()
    assert process.returncode == -signal.SIGKILL
    assert not any(child.is_running() for child in family)
