"""PostgreSQL's programs: a server of our own to restore into, pg_dump and pg_restore."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reattach.fast_import.errors import JobError, doing
from reattach.runtime.unprivileged import user

SUPERUSER = "cloud_admin"
DATABASE = "neondb"
LOCALE = "C.UTF-8"
HOST = "127.0.0.1"

READY_SECONDS = 600.0
SHUTDOWN_SECONDS = 60.0
POLL_SECONDS = 0.02
CONNECT_SECONDS = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Programs:
    """Where PostgreSQL's programs and libraries are."""

    bin_dir: Path
    lib_dir: Path

    @property
    def environment(self) -> dict[str, str]:
        """All that the programs get: nothing of ours may change what they do."""
        return {"LD_LIBRARY_PATH": str(self.lib_dir), "LC_ALL": "C", "PATH": os.defpath}

    def major_version(self) -> int:
        """Of the server. Raises JobError."""
        with doing("get the version of postgres"):
            shown = subprocess.run(
                [self.bin_dir / "postgres", "--version"],
                env=self.environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            found = re.search(r"\(PostgreSQL\) (\d+)", shown)
            if found is None:
                raise ValueError(f"no version in {shown!r}")
            return int(found[1])

    def initdb(self, pgdata: Path) -> None:
        """Makes a data directory. Raises JobError."""
        version = self.major_version()
        arguments = [
            f"--pgdata={pgdata}",
            f"--username={SUPERUSER}",
            "--encoding=utf8",
            f"--locale={LOCALE}",
            "--auth=trust",
            "--no-instructions",
            "--no-sync",
        ]
        if version > 14:
            arguments.append(f"--locale-provider={'builtin' if version >= 17 else 'libc'}")
        if version >= 18:
            arguments.append("--no-data-checksums")
        with doing("create pgdata directory"):
            pgdata.mkdir(mode=0o700)
            if os.geteuid() == 0:
                shutil.chown(pgdata, *user())
        self.run("initdb", arguments, unprivileged=True)

    def run(self, name: str, arguments: Sequence[str | Path], *, unprivileged: bool = False) -> None:
        """Runs a program to its end; what it prints is logged. Raises JobError if it fails."""
        with doing(f"spawn {name}"):
            process = subprocess.Popen(
                [*(_drop() if unprivileged else []), self.bin_dir / name, *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        with process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    log.info("%s: %s", name, line.rstrip())
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            log.error("%s exited with %d", name, process.returncode)
            raise JobError(f"{name} failed")


@contextmanager
def running_postgres(
    programs: Programs, pgdata: Path, port: int, *, num_cpus: int, memory_mb: int
) -> Iterator[str]:
    """A server on a new data directory, with an empty database whose connection string is given.

    Leaving shuts it down cleanly, or kills it after an error. Raises JobError.
    """
    programs.initdb(pgdata)
    with doing("spawn postgres"):
        process = subprocess.Popen(
            [
                *_drop(),
                programs.bin_dir / "postgres",
                "-D",
                pgdata,
                "-p",
                str(port),
                *_settings(num_cpus=num_cpus, memory_mb=memory_mb),
            ],
            env=programs.environment,
            stdin=subprocess.DEVNULL,
        )
    try:
        log.info("spawned postgres, waiting for it to become ready")
        _wait_until_ready(process, pgdata)
        _create_database(port)
        yield f"host={HOST} port={port} user={SUPERUSER} dbname={DATABASE}"
        log.info("shutdown postgres")
        process.send_signal(signal.SIGINT)
        with doing("wait for postgres to shut down"):
            code = process.wait(SHUTDOWN_SECONDS)
        if code != 0:
            raise JobError(f"postgres exited with {code} at its shutdown")
    finally:
        if process.poll() is None:
            # Immediate shutdown: unlike after a kill, its children and shared memory go too.
            process.send_signal(signal.SIGQUIT)
            process.wait(SHUTDOWN_SECONDS)


def _drop() -> list[str]:
    if os.geteuid() != 0:
        return []
    return [sys.executable, "-P", "-m", "reattach.runtime.unprivileged"]


def _settings(*, num_cpus: int, memory_mb: int) -> list[str]:
    settings: dict[str, object] = {
        "listen_addresses": HOST,
        "unix_socket_directories": "",
        "wal_level": "minimal",
        "max_wal_senders": 0,
        # Nobody needs this server's data until it was shut down cleanly.
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
        # Building indexes is what takes memory.
        "shared_buffers": f"{max(memory_mb // 10, 1)}MB",
        "maintenance_work_mem": f"{max(memory_mb * 7 // 10, 1)}MB",
        "max_parallel_maintenance_workers": num_cpus,
        "max_parallel_workers": num_cpus,
        "max_parallel_workers_per_gather": num_cpus,
        "max_worker_processes": num_cpus,
        "effective_io_concurrency": 100,
    }
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _wait_until_ready(process: subprocess.Popen[bytes], pgdata: Path) -> None:
    """As it says itself: on its port somebody else's server may listen, which must not get our database."""
    import psycopg  # noqa: F401  (slow to import, while the server starts)

    deadline = time.monotonic() + READY_SECONDS
    while not _is_ready(pgdata, process.pid):
        if process.poll() is not None:
            raise JobError("postgres exited before it was ready")
        if time.monotonic() > deadline:
            raise JobError(f"postgres was not ready after {READY_SECONDS:g} s")
        time.sleep(POLL_SECONDS)


def _is_ready(pgdata: Path, pid: int) -> bool:
    try:
        lines = (pgdata / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _create_database(port: int) -> None:
    import psycopg

    with doing("create the database"):
        with psycopg.connect(
            host=HOST,
            port=port,
            user=SUPERUSER,
            dbname="postgres",
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
        ) as connection:
            connection.execute(f"create database {DATABASE}".encode())
    log.info("created %s database", DATABASE)
