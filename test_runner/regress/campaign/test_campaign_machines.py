"""Campaigns on real clusters: to the end, and killed wherever they can be."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from reattach.fixtures.campaign.plans import wanted
from reattach.fixtures.campaign.store import Store
from reattach.fixtures.explore.explorer import Explorer
from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.processes import Launcher, Process, wait_for
from reattach.fixtures.subjects.command import Command, TargetPostgres
from test_runner.regress.campaign.machines import Machines, benches, environment, job

SEED = 7
END_SECONDS = 60.0
ALL_SECONDS = 240.0


@pytest.fixture
def machines(launcher: Launcher, _reattach_ports: PortDistributor, tmp_path: Path) -> Iterator[Machines]:
    made = Machines(launcher, _reattach_ports, tmp_path / "machines")
    yield made
    made.end()


def options(folder: Path, how: str, plans: int) -> list[str]:
    """Of a campaign, without where it runs and where its results are."""
    return [
        *job(how),
        "--plans",
        str(plans),
        "--seed",
        str(SEED),
        "--commit",
        "this",
        "--output",
        str(folder / "out"),
    ]


def kept(results: Path) -> int:
    """How many runs there are, by a look from outside."""
    if not results.exists():
        return 0
    with closing(sqlite3.connect(f"file:{results}?mode=ro", uri=True, timeout=30)) as connection:
        try:
            return int(connection.execute("select count(*) from runs").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def assert_nothing_is_lost(results: Path, plans: int) -> None:
    """Every plan has a run, and no other has."""
    store = Store(str(results))
    (key,) = store.campaigns()
    table = store.reference(key)
    assert table is not None
    expected = sorted(plan.digest() for plan in wanted(table, SEED, plans))
    assert [run.plan for run in store.runs(key)] == expected
    assert len(expected) == plans


def test_on_this_machine(tmp_path: Path) -> None:
    """Failures are reduced and told once; the same command has nothing left to do; no process is left."""
    results = tmp_path / "results.sqlite"
    command = [sys.executable, "-m", "reattach.fixtures.cli", "campaign"]
    arguments = [*options(tmp_path, "early", 12), "--workers", "2", "--results", str(results)]
    for known in ("", ", 12 of them before"):
        ran = subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            timeout=ALL_SECONDS,
            check=False,
            env=environment(),
        )
        assert ran.returncode == 1, ran.stdout + ran.stderr
        assert f"12 of 12{known};" in ran.stdout
        assert "job > store: put checkpoint #1, after: kill job" in ran.stdout
        assert "fails 3 of 3 times" in ran.stdout
    assert_nothing_is_lost(results, 12)
    assert benches(tmp_path) == []
    page = tmp_path / "out" / "coverage.html"
    assert "wrong result" in page.read_text()
    other = tmp_path / "other.sqlite"
    for _ in range(2):
        merged = subprocess.run(
            [*command, "merge", str(other), str(results)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert f"{results}: 12 plans" in merged.stdout
    assert_nothing_is_lost(other, 12)


@pytest.mark.slow
def test_killed_it_goes_on(machines: Machines, tmp_path: Path) -> None:
    """kill -9 of a worker, the client, the scheduler: nothing is lost, nothing twice, nobody left."""
    plans, results = 300, tmp_path / "results.sqlite"
    machines.start(2)
    arguments = [
        *options(tmp_path, "right", plans),
        "--scheduler",
        machines.address,
        "--results",
        str(results),
    ]

    def client() -> Process:
        return machines.campaign(arguments, tmp_path / "client.log")

    def until(count: int, process: Process) -> None:
        def come() -> bool:
            machines.restart()
            assert process.returncode in (None, 0), (tmp_path / "client.log").read_text()
            return kept(results) >= count

        wait_for(come, what=f"{count} runs are kept", timeout=ALL_SECONDS)

    running = client()
    until(30, running)
    place = str(tmp_path / "machines" / "worker_0")

    def mine() -> list[psutil.Process] | None:
        return [bench for bench in benches(tmp_path) if place in " ".join(command_of(bench))] or None

    bench = wait_for(mine, what="the first worker to work", timeout=END_SECONDS)
    machines.kill_worker(0)
    assert len(bench) == 1
    assert not psutil.wait_procs(bench, timeout=END_SECONDS)[1]
    until(kept(results) + 30, running)
    running.kill()
    running.wait(10)
    running = client()
    until(kept(results) + 30, running)
    machines.kill_scheduler()
    machines.restart()
    until(plans, running)
    assert running.wait(ALL_SECONDS) == 0, (tmp_path / "client.log").read_text()
    assert_nothing_is_lost(results, plans)
    machines.end()
    assert not psutil.wait_procs(benches(tmp_path), timeout=END_SECONDS)[1]


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def test_a_scheduler_that_is_not_there_is_told(tmp_path: Path, _reattach_ports: PortDistributor) -> None:
    address = f"tcp://127.0.0.1:{_reattach_ports.get_port()}"
    command = [sys.executable, "-m", "reattach.fixtures.cli", "campaign", *options(tmp_path, "right", 2)]
    began = time.monotonic()
    ran = subprocess.run(
        [*command, "--scheduler", address, "--away", "1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(),
    )
    assert ran.returncode == 1
    assert f"no scheduler answers at {address}" in ran.stderr
    assert time.monotonic() - began < END_SECONDS


def test_it_survives_every_crash(
    machines: Machines, target_postgres: TargetPostgres, tmp_path: Path, test_output_dir: Path
) -> None:
    """Explored like any job: killed before and after each commit of its results."""
    plans = 2
    machines.start(1)
    arguments = options(tmp_path, "right", plans)

    def check() -> None:
        target_postgres.assert_rows("runs", plans, key="plan")
        target_postgres.assert_rows("campaigns", 1)

    subject = Command(
        [
            *(sys.executable, "-m", "reattach.fixtures.cli", "campaign", *arguments),
            *("--scheduler", machines.address, "--results", target_postgres.dsn),
        ],
        check=check,
        through=[target_postgres],
        name="campaign",
        environment={"PYTHONPATH": environment()["PYTHONPATH"]},
    )
    explorer = Explorer(subject, test_output_dir / "explore")
    assert [tried.failure.text() for tried in explorer.runs() if tried.failure is not None] == []
    hit, unreachable, untried = explorer.report.coverage.numbers()
    assert (unreachable, untried) == (0, 0)
    # Before, before and carried out, and after each commit: of the tables, of what the uninterrupted run did,
    # and of results, which may come together.
    assert hit in (3 * 3, 3 * 4)
    print(explorer.report.summary())  # noqa: T201  (shown with the test)
