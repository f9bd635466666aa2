"""The two jobs: `pgdata` fills an import bucket, `dump-restore` another database."""

from __future__ import annotations

import logging
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from reattach.fast_import.dump_restore import dump_restore
from reattach.fast_import.errors import JobError, doing
from reattach.fast_import.postgres import Programs, running_postgres
from reattach.fast_import.s3 import ImportBucket
from reattach.fast_import.spec import Spec, destination_of, parse_spec, source_of

DEFAULT_MEMORY_MB = 256

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pgdata:
    """Restore the source into a new data directory `pgdata`, and upload that."""

    source: str | None
    port: int
    interactive: bool
    num_cpus: int | None
    memory_mb: int | None

    name = "pgdata"


@dataclass(frozen=True)
class DumpRestore:
    """Restore the source into the destination."""

    source: str | None
    destination: str | None

    name = "dump-restore"


Job = Pgdata | DumpRestore


def run_job(job: Job, programs: Programs, workdir: Path, bucket: ImportBucket | None) -> None:
    """Does the job. With a bucket, its `spec.json` names the databases. Raises JobError."""
    spec = None
    if bucket is not None:
        with doing("get spec from s3"):
            text = bucket.get("spec.json")
        with doing("parse spec as json"):
            spec = parse_spec(text)
    _prepare(workdir)
    match job:
        case Pgdata():
            _pgdata(job, spec, programs, workdir, bucket)
        case DumpRestore():
            source, destination = _databases(job, spec, bucket)
            dump_restore(programs, workdir, source, destination)


def _prepare(workdir: Path) -> None:
    with doing("create working directory"):
        workdir.mkdir(exist_ok=True)
        is_empty = next(workdir.iterdir(), None) is None
    if not is_empty:
        raise JobError("working directory is not empty")


def _pgdata(
    job: Pgdata, spec: Spec | None, programs: Programs, workdir: Path, bucket: ImportBucket | None
) -> None:
    source = job.source
    if (spec is None) == (source is None):
        raise JobError(
            "spec must be provided for pgdata command"
            if spec is None
            else "only one of spec or source_connection_string can be provided"
        )
    if spec is not None:
        assert bucket is not None
        with doing("decrypt connection string"):
            source = source_of(spec, bucket.decrypt)
    assert source is not None
    pgdata = workdir / "pgdata"
    with running_postgres(
        programs,
        pgdata,
        job.port,
        num_cpus=job.num_cpus or os.cpu_count() or 1,
        memory_mb=job.memory_mb or DEFAULT_MEMORY_MB,
    ) as destination:
        dump_restore(programs, workdir, source, destination)
        if job.interactive:
            _wait_for_interrupt()
    if bucket is not None:
        log.info("upload pgdata")
        with doing("sync pgdata directory to destination"):
            count = bucket.put_tree(pgdata, "pgdata")
        log.info("uploaded %d files, write pgdata status to s3", count)
        with doing("write pgdata status"):
            bucket.put("status/pgdata", b'{"done":true}')


def _databases(job: DumpRestore, spec: Spec | None, bucket: ImportBucket | None) -> tuple[str, str]:
    if spec is None:
        if job.source is None:
            raise JobError("source connection string must be provided for dump_restore command")
        if job.destination is None:
            raise JobError("destination connection string must be provided for dump_restore command")
        return job.source, job.destination
    assert bucket is not None
    with doing("decrypt source connection string"):
        source = source_of(spec, bucket.decrypt)
    with doing("decrypt destination connection string"):
        destination = destination_of(spec, bucket.decrypt)
    if destination is None:
        raise JobError("destination connection string must be provided in spec for dump_restore command")
    return source, destination


def _wait_for_interrupt() -> None:
    log.info("Running in interactive mode. Press Ctrl+C to shut down.")
    # Blocked, they are waited for and not raised.
    awaited = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    try:
        came = signal.sigwait(awaited)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if came == signal.SIGTERM:
        sys.exit(128 + came)
