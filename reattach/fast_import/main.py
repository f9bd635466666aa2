"""The command `fast_import`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from reattach.fast_import.errors import JobError
from reattach.fast_import.job import DumpRestore, Job, Pgdata, run_job
from reattach.fast_import.postgres import Programs
from reattach.fast_import.s3 import ImportBucket, S3Prefix
from reattach.runtime.errors import cause_chain
from reattach.runtime.logs import start_logging

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job that the command line names.

    With an S3 prefix, how it ended stands in the object `status/fast_import`, and the exit code is 0 if that
    could be written. Without one, a job that failed prints its error and exits with 1.
    """
    arguments = _parser().parse_args(argv)
    start_logging()
    log.info("starting")
    # Else the server that we run would outlive us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    job = _job(arguments)
    programs = Programs(arguments.pg_bin_dir, arguments.pg_lib_dir)
    prefix: S3Prefix | None = arguments.s3_prefix
    bucket = None if prefix is None else ImportBucket(prefix)
    error = None
    try:
        run_job(job, programs, arguments.working_directory, bucket)
    except JobError as e:
        log.error("job failed: %s", cause_chain(e))
        error = e
    if bucket is None:
        if error is not None:
            print(f"fast_import: {cause_chain(error)}", file=sys.stderr)  # noqa: T201
        return 0 if error is None else 1
    log.info("write job status to s3")
    status: dict[str, object] = {"command": job.name, "done": error is None}
    if error is not None:
        status["error"] = str(error)
    bucket.put("status/fast_import", json.dumps(status, separators=(",", ":")).encode())
    return 0


def _job(arguments: argparse.Namespace) -> Job:
    if arguments.command == DumpRestore.name:
        return DumpRestore(arguments.source_connection_string, arguments.destination_connection_string)
    return Pgdata(
        arguments.source_connection_string,
        arguments.pg_port,
        arguments.interactive,
        arguments.num_cpus,
        arguments.memory_mb,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fast_import", description=sys.modules["reattach.fast_import"].__doc__
    )
    _option(parser, "--working-directory", "NEON_IMPORTER_WORKDIR", Path, required=True)
    _option(parser, "--s3-prefix", "NEON_IMPORTER_S3_PREFIX", _prefix)
    _option(parser, "--pg-bin-dir", "NEON_IMPORTER_PG_BIN_DIR", Path, required=True)
    _option(parser, "--pg-lib-dir", "NEON_IMPORTER_PG_LIB_DIR", Path, required=True)
    commands = parser.add_subparsers(dest="command", required=True)

    pgdata = commands.add_parser(Pgdata.name, help="fill the import bucket")
    pgdata.add_argument("--source-connection-string", metavar="CONNSTR")
    pgdata.add_argument(
        "-i", "--interactive", action="store_true", help="wait for Ctrl-C before the shutdown"
    )
    pgdata.add_argument("--pg-port", type=_port, default=5432, metavar="PORT")
    _option(pgdata, "--num-cpus", "NEON_IMPORTER_NUM_CPUS", _positive)
    _option(pgdata, "--memory-mb", "NEON_IMPORTER_MEMORY_MB", _positive)

    other = commands.add_parser(DumpRestore.name, help="copy into another database")
    other.add_argument("--source-connection-string", metavar="CONNSTR")
    other.add_argument("--destination-connection-string", metavar="CONNSTR")
    return parser


def _option(
    parser: argparse.ArgumentParser,
    name: str,
    variable: str,
    kind: Callable[[str], object],
    required: bool = False,
) -> None:
    default = os.environ.get(variable)
    parser.add_argument(
        name,
        type=kind,
        default=default,
        required=required and default is None,
        help=f"or the environment variable {variable}",
    )


def _prefix(text: str) -> S3Prefix:
    try:
        return S3Prefix.parse(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"not a port: {text}")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"not a positive number: {text}")
    return int(text)
