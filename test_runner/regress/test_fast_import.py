"""The program `fast_import`, which fills import buckets from a running PostgreSQL."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest

from reattach.api.bucket import Operation
from reattach.fixtures.bucket.server import BucketServer
from reattach.fixtures.fast_import import FastImport
from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.postgres.binaries import PgBin
from reattach.fixtures.postgres.protocol import PgProtocol
from reattach.fixtures.processes import Launcher, wait_for
from reattach.fixtures.vanilla_postgres import VanillaPostgres

ROWS = [(10, 55)]
QUERY = "select count(*), sum(a) from foo"
FOO = "create table foo (a int primary key); insert into foo select generate_series(1, 10)"


def imported(fast_import: FastImport, pg_bin: PgBin, port: int) -> VanillaPostgres:
    """A server on the data directory that the program made, which listens as it is configured here."""
    postgres = VanillaPostgres(fast_import.workdir / "pgdata", pg_bin, port, init=False)
    postgres.configure(["listen_addresses = '127.0.0.1'", "unix_socket_directories = ''"])
    return postgres


def neondb(port: int) -> PgProtocol:
    return PgProtocol(dsn=f"postgresql://cloud_admin@127.0.0.1:{port}/neondb")


class Import:
    """The folder of an import in the mock S3, and its encryption key."""

    def __init__(self, server: BucketServer, name: str) -> None:
        self.server = server
        self.bucket = "imports"
        self.key = name
        server.create_bucket(self.bucket)
        self._kms: Any = boto3.client(
            "kms",
            endpoint_url=server.endpoint,
            region_name=server.region,
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
        )
        self.key_id = self._kms.create_key()["KeyMetadata"]["KeyId"]

    @property
    def prefix(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def environment(self) -> dict[str, str]:
        return {**self.server.environment(), "AWS_ENDPOINT_URL": self.server.endpoint}

    def encrypt(self, text: str) -> str:
        ciphertext = self._kms.encrypt(KeyId=self.key_id, Plaintext=text)["CiphertextBlob"]
        return base64.b64encode(ciphertext).decode()

    def put_spec(self, **fields: object) -> None:
        spec = {"encryption_secret": {"KMS": {"key_id": self.key_id}}, "project_id": "p", **fields}
        self.put("spec.json", json.dumps(spec).encode())

    def put(self, name: str, content: bytes) -> None:
        self.server.put(self.bucket, f"{self.key}/{name}", content)

    def get(self, name: str) -> bytes:
        return self.server.get(self.bucket, f"{self.key}/{name}")

    def status(self, name: str = "fast_import") -> object:
        return json.loads(self.get(f"status/{name}"))

    def names(self) -> list[str]:
        pages = self.server.client().get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=self.bucket, Prefix=f"{self.key}/")
        return [
            item["Key"].removeprefix(f"{self.key}/") for page in found for item in page.get("Contents", [])
        ]


@pytest.fixture
def s3_import(bucket_server: BucketServer, request: pytest.FixtureRequest, fast_import: FastImport) -> Import:
    result = Import(bucket_server, request.node.name)
    fast_import.extra_env |= result.environment
    return result


@pytest.fixture
def source(vanilla_pg: VanillaPostgres) -> VanillaPostgres:
    vanilla_pg.start()
    vanilla_pg.safe_psql(FOO)
    return vanilla_pg


def test_pgdata(
    fast_import: FastImport, source: VanillaPostgres, pg_bin: PgBin, port_distributor: PortDistributor
) -> None:
    port = port_distributor.get_port()
    done = fast_import.run_pgdata(pg_port=port, source_connection_string=source.connstr())
    assert done.returncode == 0
    assert fast_import.cmd is done
    source.stop()
    with imported(fast_import, pg_bin, port) as postgres:
        log = postgres.start().pgdatadir / "pg.log"
        assert neondb(port).safe_psql(QUERY) == ROWS
        assert "not properly shut down" not in log.read_text()
    with pytest.raises(RuntimeError, match="has been run"):
        fast_import.run_pgdata()


def test_what_stays_behind(
    fast_import: FastImport, source: VanillaPostgres, pg_bin: PgBin, port_distributor: PortDistributor
) -> None:
    source.safe_psql(
        "create role someone; create schema app authorization someone; create table app.mine (a int);"
        "alter table app.mine owner to someone; grant select on foo to someone;"
        "create publication pub for table foo;"
        "create function audit() returns event_trigger language plpgsql as 'begin end';"
        "create event trigger event_trigger_audit on sql_drop execute function audit();"
        "comment on event trigger event_trigger_audit is 'EVENT TRIGGER';"
        "comment on table foo is 'EVENT TRIGGER'"
    )
    port = port_distributor.get_port()
    fast_import.run_pgdata(pg_port=port, source_connection_string=source.connstr())
    with imported(fast_import, pg_bin, port) as postgres:
        postgres.start()
        there = neondb(port)
        assert there.safe_psql(QUERY) == ROWS
        assert there.safe_psql_scalar("select count(*) from app.mine") == 0
        assert there.safe_psql_scalar("select count(*) from pg_event_trigger") == 0
        assert there.safe_psql_scalar("select count(*) from pg_publication") == 0
        assert there.safe_psql_scalar("select count(*) from pg_proc where proname = 'audit'") == 1
        assert there.safe_psql_scalar("select obj_description('foo'::regclass)") == "EVENT TRIGGER"
        owner = "select tableowner from pg_tables where tablename = 'mine'"
        assert there.safe_psql_scalar(owner) == "cloud_admin"


def test_pgdata_to_s3(
    fast_import: FastImport, s3_import: Import, source: VanillaPostgres, port_distributor: PortDistributor
) -> None:
    s3_import.put_spec(source_connstring_ciphertext_base64=s3_import.encrypt(source.connstr()))
    fast_import.run_pgdata(s3prefix=f"{s3_import.prefix}/", pg_port=port_distributor.get_port())
    assert s3_import.status("pgdata") == {"done": True}
    assert s3_import.status() == {"command": "pgdata", "done": True}
    pgdata = fast_import.workdir / "pgdata"
    files = {path.relative_to(pgdata).as_posix(): path for path in pgdata.rglob("*") if path.is_file()}
    uploaded = set(s3_import.names())
    assert uploaded == {
        "spec.json",
        "status/pgdata",
        "status/fast_import",
        *(f"pgdata/{name}" for name in files),
    }
    for name in ("global/pg_control", "PG_VERSION", "base/1/pg_filenode.map"):
        assert s3_import.get(f"pgdata/{name}") == files[name].read_bytes()
    last = [seen.key for seen in s3_import.server.log.all() if seen.method == "PUT"][-2:]
    assert last == [f"{s3_import.key}/status/pgdata", f"{s3_import.key}/status/fast_import"]


def test_half_an_upload_is_not_called_done(
    fast_import: FastImport, s3_import: Import, source: VanillaPostgres, port_distributor: PortDistributor
) -> None:
    s3_import.put_spec(source_connstring_ciphertext_base64=s3_import.encrypt(source.connstr()))
    faults = s3_import.server.faults
    faults.on(Operation.PUT_OBJECT, key=f"{s3_import.key}/pgdata/PG_VERSION").status(403)
    try:
        fast_import.run_pgdata(s3prefix=s3_import.prefix, pg_port=port_distributor.get_port())
    finally:
        faults.finish(check=True)
    assert s3_import.status() == {
        "command": "pgdata",
        "done": False,
        "error": "sync pgdata directory to destination",
    }
    assert "status/pgdata" not in s3_import.names()


def test_dump_restore(
    fast_import: FastImport,
    source: VanillaPostgres,
    pg_bin: PgBin,
    port_distributor: PortDistributor,
    test_output_dir: Path,
) -> None:
    pgdata = test_output_dir / "destination"
    with VanillaPostgres(pgdata, pg_bin, port_distributor.get_port()) as destination:
        destination.start()
        destination.safe_psql("create role testrole login")
        destination.safe_psql("create database testdb owner testrole")
        there = destination.connstr(dbname="testdb", user="testrole")
        fast_import.run_dump_restore(
            source_connection_string=source.connstr(), destination_connection_string=there
        )
        assert PgProtocol(dsn=there).safe_psql(QUERY) == ROWS
    assert not (fast_import.workdir / "pgdata").exists()


def test_dump_restore_from_spec(
    fast_import: FastImport,
    s3_import: Import,
    source: VanillaPostgres,
    pg_bin: PgBin,
    port_distributor: PortDistributor,
    test_output_dir: Path,
) -> None:
    pgdata = test_output_dir / "destination"
    with VanillaPostgres(pgdata, pg_bin, port_distributor.get_port()) as destination:
        destination.start()
        s3_import.put_spec(
            source_connstring_ciphertext_base64=s3_import.encrypt(source.connstr()),
            destination_connstring_ciphertext_base64=s3_import.encrypt(destination.connstr()),
        )
        fast_import.run_dump_restore(s3prefix=s3_import.prefix)
        assert s3_import.status() == {"command": "dump-restore", "done": True}
        assert destination.safe_psql(QUERY) == ROWS
    assert set(s3_import.names()) == {"spec.json", "status/fast_import"}


def test_bad_destination(
    fast_import: FastImport, s3_import: Import, source: VanillaPostgres, port_distributor: PortDistributor
) -> None:
    nobody_listens = f"postgresql://someone@127.0.0.1:{port_distributor.get_port()}/db"
    s3_import.put_spec(
        source_connstring_ciphertext_base64=s3_import.encrypt(source.connstr()),
        destination_connstring_ciphertext_base64=s3_import.encrypt(nobody_listens),
    )
    assert fast_import.run_dump_restore(s3prefix=s3_import.prefix).returncode == 0
    assert s3_import.status() == {"command": "dump-restore", "done": False, "error": "pg_restore failed"}


@pytest.mark.parametrize(
    ("command", "spec", "error"),
    [
        (
            "dump-restore",
            {"source_connstring_ciphertext_base64": "aGVsbG8="},
            "decrypt source connection string",
        ),
        ("pgdata", {"source_connstring_ciphertext_base64": "aGVsbG8="}, "decrypt connection string"),
        ("pgdata", {"source_connstring_ciphertext_base64": 7}, "parse spec as json"),
        ("pgdata", None, "get spec from s3"),
    ],
)
def test_bad_spec(
    fast_import: FastImport, s3_import: Import, command: str, spec: dict[str, object] | None, error: str
) -> None:
    if spec is not None:
        s3_import.put_spec(**spec)
    assert fast_import.run(command, s3prefix=s3_import.prefix).returncode == 0
    assert s3_import.status() == {"command": command, "done": False, "error": error}


def test_spec_without_destination(
    fast_import: FastImport, s3_import: Import, source: VanillaPostgres
) -> None:
    s3_import.put_spec(source_connstring_ciphertext_base64=s3_import.encrypt(source.connstr()))
    fast_import.run_dump_restore(s3prefix=s3_import.prefix)
    status = s3_import.status()
    assert isinstance(status, dict)
    assert status["done"] is False
    assert status["error"].startswith("destination connection string must be provided in spec")


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("pgdata", {}, "spec must be provided for pgdata command"),
        ("dump-restore", {}, "source connection string must be provided"),
        ("dump-restore", {"source_connection_string": "host=x"}, "destination connection string must be"),
    ],
)
def test_failure_without_bucket_is_printed(
    fast_import: FastImport, command: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        fast_import.run(command, **options)  # type: ignore[arg-type]
    assert error.value.returncode == 1
    assert message in error.value.stderr


def test_working_directory_must_be_empty(fast_import: FastImport) -> None:
    (fast_import.workdir / "something").touch()
    with pytest.raises(subprocess.CalledProcessError) as error:
        fast_import.run_pgdata(source_connection_string="host=x")
    assert error.value.stderr == "fast_import: working directory is not empty\n"


def test_port_in_use_ends_the_job(fast_import: FastImport, source: VanillaPostgres) -> None:
    """And whoever has it gets no database of ours, though it would let us in."""
    if source.safe_psql("select from pg_roles where rolname = 'cloud_admin'") == []:
        source.safe_psql("create role cloud_admin superuser login")
    port = source.default_options["port"]
    assert isinstance(port, int)
    with pytest.raises(subprocess.CalledProcessError) as error:
        fast_import.run_pgdata(pg_port=port, source_connection_string=source.connstr())
    assert "postgres exited before it was ready" in error.value.stderr
    assert source.safe_psql("select datname from pg_database where datname = 'neondb'") == []


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--pg-port", "0", "argument --pg-port: not a port: 0"),
        ("--num-cpus", "-1", "argument --num-cpus: not a positive number: -1"),
        ("--s3-prefix", "http://x/y", "argument --s3-prefix: not like s3://bucket/key: http://x/y"),
        ("--s3-prefix", "s3://only-a-bucket", "argument --s3-prefix: not like s3://bucket/key"),
    ],
)
def test_bad_command_line(
    fast_import: FastImport, launcher: Launcher, option: str, value: str, message: str
) -> None:
    common = ["--working-directory=x", "--pg-bin-dir=x", "--pg-lib-dir=x"]
    before, after = ([f"{option}={value}"], []) if option == "--s3-prefix" else ([], [f"{option}={value}"])
    argv: list[str | Path] = [fast_import.program, *common, *before, "pgdata", *after]
    done = launcher.run(argv, timeout=20, check=False)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_ended_in_the_middle_leaves_no_server(
    fast_import: FastImport,
    source: VanillaPostgres,
    launcher: Launcher,
    port_distributor: PortDistributor,
    test_output_dir: Path,
    sig: signal.Signals,
) -> None:
    """SIGINT is what `--interactive` waits for: an import that ends with it is whole."""
    process = launcher.start(
        "fast_import",
        [
            fast_import.program,
            f"--pg-bin-dir={fast_import.pg_bin}",
            f"--pg-lib-dir={fast_import.pg_lib}",
            f"--working-directory={fast_import.workdir}",
            "pgdata",
            "--interactive",
            f"--pg-port={port_distributor.get_port()}",
            f"--source-connection-string={source.connstr()}",
        ],
        log_path=test_output_dir / "fast_import.log",
    )
    wait_for(
        lambda: "Press Ctrl+C" in process.log_path.read_text(),
        what="the restored server",
        timeout=60,
        alive=process,
    )
    [postgres] = [child for child in psutil.Process(process.pid).children() if child.name() == "postgres"]
    process.send_signal(sig)
    assert process.wait(20) == (0 if sig == signal.SIGINT else 128 + sig)
    assert not postgres.is_running()
    assert ("received fast shutdown request" in process.log_path.read_text()) == (sig == signal.SIGINT)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has directories that others cannot reach")
def test_below_a_folder_that_only_root_may_enter(
    fast_import: FastImport, source: VanillaPostgres, port_distributor: PortDistributor, test_output_dir: Path
) -> None:
    hidden = test_output_dir / "only root"
    (hidden / "work").mkdir(parents=True)
    hidden.chmod(0o700)
    fast_import.workdir = hidden / "work"
    fast_import.run_pgdata(pg_port=port_distributor.get_port(), source_connection_string=source.connstr())
    assert (fast_import.workdir / "pgdata" / "global" / "pg_control").exists()
