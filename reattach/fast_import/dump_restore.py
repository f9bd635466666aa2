"""Copying a database's content: pg_dump to a directory, pg_restore from it."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from reattach.fast_import.errors import doing
from reattach.fast_import.postgres import Programs

log = logging.getLogger(__name__)


def dump_restore(programs: Programs, workdir: Path, source: str, destination: str) -> None:
    """Copies the source database into the destination database, both given as connection strings.

    Owners, privileges, publications, subscriptions, security labels, tablespaces and event triggers stay
    behind. Leaves the dump in `workdir/dumpdir`. Raises JobError.
    """
    dump = workdir / "dumpdir"
    jobs = os.cpu_count() or 1
    common = [
        "--no-owner",
        "--no-privileges",
        "--no-publications",
        "--no-security-labels",
        "--no-subscriptions",
        "--no-tablespaces",
        "--format=directory",
        f"--jobs={jobs}",
        "--verbose",
    ]
    log.info("dump into the working directory, %d jobs", jobs)
    programs.run("pg_dump", [*common, f"--file={dump}", "--no-sync", source])
    wanted = workdir / "dumpdir.list"
    with doing("list the dump"):
        listed = subprocess.run(
            [programs.bin_dir / "pg_restore", "--list", dump],
            env=programs.environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        wanted.write_text("".join(without_event_triggers(listed.splitlines(keepends=True))))
    log.info("restore from the working directory, %d jobs", jobs)
    programs.run("pg_restore", [*common, f"--use-list={wanted}", f"--dbname={destination}", dump])


def without_event_triggers(lines: Iterable[str]) -> Iterable[str]:
    """A dump's list, `<id>; <class> <oid> <kind> ...` per line, without its event triggers."""
    # pg_dump has no option to leave them out.
    for line in lines:
        description = line.partition(";")[2].split()[2:]
        if description[:2] == ["EVENT", "TRIGGER"] or description[:4] == ["COMMENT", "-", "EVENT", "TRIGGER"]:
            log.info("leave out %s", line.strip())
        else:
            yield line
