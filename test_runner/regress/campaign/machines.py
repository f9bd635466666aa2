"""Dask's processes, one for each machine that there might be, and a campaign on them; each can be killed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.processes import Launcher, Process

ROOT = Path(__file__).parents[3]


def job(how: str) -> list[str]:
    """The options that make a job in memory the job: "right" or "early"."""
    return ["--subject", f"test_runner.regress.campaign.cheap:{how}"]


def environment() -> dict[str, str]:
    """In which the job is found."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


class Machines:
    """A scheduler with workers. address: of the scheduler, the same after it was started again."""

    def __init__(self, launcher: Launcher, ports: PortDistributor, folder: Path) -> None:
        self._launcher = launcher
        self._folder = folder
        self._ports = ports
        port = ports.get_port()
        self.address = f"tcp://127.0.0.1:{port}"
        self._scheduler_arguments = [
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--no-dashboard",
        ]
        self.scheduler: Process | None = None
        self.workers: list[Process] = []
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, workers: int) -> None:
        """The scheduler, and so many workers, each with a process that watches it."""
        self.scheduler = self._dask("scheduler", self._scheduler_arguments)
        self.workers = [self._worker(number) for number in range(workers)]

    def _worker(self, number: int) -> Process:
        arguments = ["worker", self.address, "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard"]
        folder = self._folder / f"worker_{number}"
        return self._dask(f"worker_{number}", [*arguments, "--local-directory", str(folder)])

    def restart(self) -> None:
        """Starts what is down, as whoever runs the machines would."""
        if self.scheduler is None or self.scheduler.returncode is not None:
            self.scheduler = self._dask("scheduler", self._scheduler_arguments)
        for number, worker in enumerate(self.workers):
            if worker.returncode is not None:
                self.workers[number] = self._worker(number)

    def kill_scheduler(self) -> None:
        """kill -9."""
        assert self.scheduler is not None
        self.scheduler.kill()
        self.scheduler.wait(10)

    def kill_worker(self, number: int) -> None:
        """kill -9 of the process that does the work, and of the one that watches it."""
        watcher = psutil.Process(self.workers[number].pid)
        # Dask's own are its children; what hangs below them must end by itself.
        its = watcher.children()
        watcher.kill()
        for process in its:
            with suppress(psutil.NoSuchProcess):  # it notices that its watcher is gone, and ends, too
                process.kill()
        self.workers[number].wait(10)

    def campaign(self, arguments: Sequence[str], log: Path) -> Process:
        """A client."""
        argv = [sys.executable, "-m", "reattach.fixtures.cli", "campaign", *arguments]
        return self._launcher.start("campaign", argv, log_path=log, cwd=self._folder, env=environment())

    def _dask(self, name: str, arguments: Sequence[str]) -> Process:
        argv = [sys.executable, "-m", "dask", *arguments]
        return self._launcher.start(
            name, argv, log_path=self._folder / f"{name}.log", cwd=self._folder, env=environment()
        )

    def end(self) -> None:
        """Ends all of them."""
        for process in (*self.workers, *([self.scheduler] if self.scheduler else [])):
            process.kill()
            process.wait(10)


def benches(folder: Path) -> list[psutil.Process]:
    """Those that have their files below the folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words: list[str] = process.info["cmdline"] or []
        if "reattach.fixtures.campaign.bench_process" in words and words[-1].startswith(str(folder)):
            found.append(process)
    return found
