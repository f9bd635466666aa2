"""Endpoints: stock Postgres on what was imported, on a copy of its own."""

from __future__ import annotations

import struct
from pathlib import Path

import google_crc32c
import psycopg
import pytest

from reattach.fixtures.bucket.server import BucketServer
from reattach.fixtures.fast_import import populate_vanilla_pg, validate_import_from_vanilla_pg
from reattach.fixtures.imports.bucket import ImportBucket, LocalImportBucket, S3ImportBucket, SourceCluster
from reattach.fixtures.imports.handle import ImportTimeline, after_job
from reattach.fixtures.imports.sources import drop_template_databases
from reattach.fixtures.log_helper import log
from reattach.fixtures.neon_fixtures import NeonEnv, NeonEnvBuilder, PgBin, Unsupported, VanillaPostgres
from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.postgres.cluster import ClusterOptions, initdb
from reattach.fixtures.postgres.datasets import Dataset, DatasetCache
from reattach.fixtures.postgres.distributions import NoPostgres
from reattach.fixtures.processes import CommandFailed, ProcessDied, shared_launcher
from reattach.fixtures.row_checksums import RowChecksums, row_checksums

pytestmark = pytest.mark.endpoint


def imported(env: NeonEnv, bucket: ImportBucket) -> ImportTimeline:
    timeline = env.start_import(bucket)
    timeline.wait_done()
    return timeline


@pytest.mark.every_pg_version
def test_import_resume_has_every_row(
    neon_env_builder: NeonEnvBuilder,
    pg_datasets: DatasetCache,
    pg_bin: PgBin,
    bucket_server: BucketServer,
    test_output_dir: Path,
) -> None:
    """I8 as a server sees it: killed twice on the way, the import has all rows, and amcheck agrees."""
    dataset: Dataset[RowChecksums] = pg_datasets.get(
        "rows and their checksums", lambda postgres: _rows_and_checksums(postgres), pg_bin
    )
    source = SourceCluster(dataset.pgdata, pg_bin.distribution.version, rows=0)
    bucket = S3ImportBucket.fill(source, bucket_server, "import", test_output_dir.name)
    env = neon_env_builder.init_start()
    timeline = env.start_import(bucket, shard_count=3, hold=after_job(5))
    for job in (5, 9):
        timeline.wait_at(after_job(job))
        timeline.restart_killed(hold=after_job(9) if job == 5 else None)
    timeline.wait_done()
    timeline.assert_equals(bucket)
    if not env.engines.pageserver.builtin:
        _skip_without_resetwal(pg_bin)
    with timeline.endpoint() as endpoint:
        assert row_checksums(endpoint) == dataset.result
        if endpoint.amcheck_missing is None:
            endpoint.pg_amcheck(heapallindexed=True)
        else:
            log.warning("pg_amcheck did not run: %s", endpoint.amcheck_missing)


def _skip_without_resetwal(pg_bin: PgBin) -> None:
    try:
        pg_bin.distribution.program("pg_resetwal")
    except NoPostgres as e:
        pytest.skip(f"every byte was compared; a server needs a checkpoint to start from: {e}")


def _rows_and_checksums(postgres: VanillaPostgres) -> RowChecksums:
    populate_vanilla_pg(postgres, 4 << 20)
    postgres.safe_psql("create table keyed as select i, md5(i::text) from generate_series(1, 20000) i")
    postgres.safe_psql("create unique index on keyed (i)")
    drop_template_databases(postgres)
    return row_checksums(postgres)


@pytest.mark.every_pg_version
def test_answers_sql_and_amcheck_finds_nothing_until_something_is_wrong(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    env = neon_env_builder.init_start()
    timeline = imported(env, import_bucket)
    with timeline.endpoint() as endpoint:
        validate_import_from_vanilla_pg(endpoint, import_bucket.rows)
        # It started as after a clean shutdown: nothing was recovered.
        assert not endpoint.log_contains("automatic recovery|PANIC")
        if endpoint.amcheck_missing is not None:
            pytest.skip(endpoint.amcheck_missing)
        endpoint.pg_amcheck(heapallindexed=True)
        # A row that no index knows.
        switch = (
            "update pg_index set indisready = {0}, indisvalid = {0} where indexrelid = 'u_pkey'::regclass"
        )
        endpoint.safe_psql_many(
            [
                "create table u (n int primary key)",
                switch.format("false"),
                "insert into u values (1)",
                switch.format("true"),
            ]
        )
        with pytest.raises(CommandFailed, match="lacks matching index tuple"):
            endpoint.pg_amcheck(heapallindexed=True)
    assert not endpoint.is_running()


def test_writes_stay_in_the_endpoint(neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket) -> None:
    env = neon_env_builder.init_start()
    timeline = imported(env, import_bucket)
    one = env.endpoints.create_start("imported", endpoint_id="one", tenant_id=timeline.tenant_id)
    one.safe_psql_many(["create table mine as select 1 as n", "drop table t"])
    one.stop()
    one.start()
    assert one.safe_psql_scalar("select n from mine") == 1

    other = env.endpoints.create_start("imported", endpoint_id="other", tenant_id=timeline.tenant_id)
    validate_import_from_vanilla_pg(other, import_bucket.rows)
    with pytest.raises(psycopg.errors.UndefinedTable):
        other.safe_psql("select * from mine")
    timeline.assert_equals(import_bucket)

    one.stop_and_destroy()
    one.start()
    validate_import_from_vanilla_pg(one, import_bucket.rows)
    env.endpoints.stop_all()
    assert not one.is_running()
    assert not other.is_running()


def test_settings_and_directories(neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket) -> None:
    env = neon_env_builder.init_start()
    timeline = imported(env, import_bucket)
    endpoint = env.endpoints.create(
        "imported", endpoint_id="ep", tenant_id=timeline.tenant_id, config_lines=["work_mem = '7MB'"]
    )
    endpoint.config(["max_connections = 17"])
    assert not endpoint.pgdata_dir.exists()
    with endpoint.start():
        assert endpoint.safe_psql("show work_mem") == [("7MB",)]
        assert endpoint.safe_psql("show max_connections") == [("17",)]
        assert endpoint.safe_psql("show data_directory") == [(str(endpoint.pgdata_dir),)]
        assert endpoint.safe_psql_scalar("select current_user") == "cloud_admin"
        endpoint.edit_hba(["host all nobody_else 127.0.0.1/32 reject"])
        assert endpoint.safe_psql_scalar(
            "select count(*) from pg_hba_file_rules where user_name[1] = 'nobody_else'"
        )
    assert endpoint.pgdata_dir == env.repo_dir / "endpoints" / "ep" / "pgdata"
    assert endpoint.log_contains("database system is ready to accept connections")
    with pytest.raises(FileExistsError, match="an endpoint ep already"):
        env.endpoints.create("imported", endpoint_id="ep", tenant_id=timeline.tenant_id)


def test_killed_endpoint_recovers_and_a_dead_one_is_noticed(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    env = neon_env_builder.init_start()
    timeline = imported(env, import_bucket)
    endpoint = env.endpoints.create_start("imported", tenant_id=timeline.tenant_id)
    endpoint.safe_psql("create table mine as select 1 as n")
    assert endpoint.server is not None
    endpoint.server.kill()
    assert not endpoint.is_running()
    endpoint.start()
    assert endpoint.safe_psql_scalar("select n from mine") == 1
    assert endpoint.server.process is not None
    endpoint.server.process.kill()
    endpoint.server.process.wait(10)
    with pytest.raises(ProcessDied, match="SIGKILL before it was stopped"):
        endpoint.stop()


def test_cluster_without_cloud_admin(neon_env_builder: NeonEnvBuilder) -> None:
    """A cluster as `initdb` makes it is connected to as its own superuser."""
    env = neon_env_builder.init_start()
    assert env.initial_timeline
    with env.endpoints.create_start("main") as endpoint:
        assert endpoint.safe_psql_scalar("select current_user") == "postgres"


def test_page_checksums(
    neon_env_builder: NeonEnvBuilder, pg_datasets: DatasetCache, pg_bin: PgBin, test_output_dir: Path
) -> None:
    """With checksums on, every page of the endpoint verifies; a flipped byte is found."""
    dataset = pg_datasets.get(
        "populate_vanilla_pg(1 MiB)",
        lambda postgres: populate_vanilla_pg(postgres, 1 << 20),
        pg_bin,
        options=ClusterOptions(checksums=True),
    )
    source = SourceCluster(dataset.pgdata, pg_bin.distribution.version, dataset.result)
    bucket = LocalImportBucket.fill(source, test_output_dir / "bucket")
    env = neon_env_builder.init_start()
    timeline = imported(env, bucket)
    endpoint = env.endpoints.create_from_backup(timeline)
    path = endpoint.pgdata_dir / str(endpoint.safe_psql_scalar("select pg_relation_filepath('t')"))
    endpoint.stop()
    if endpoint.checksums_missing is not None:
        pytest.skip(endpoint.checksums_missing)
    assert endpoint.pg_checksums() > (1 << 20) // 8192
    with path.open("r+b") as file:
        file.seek(8000)
        byte = file.read(1)[0]
        file.seek(8000)
        file.write(bytes([byte ^ 4]))
    with pytest.raises(CommandFailed, match="checksum verification failed in file"):
        endpoint.pg_checksums()


def test_backup_without_a_checkpoint_is_made_startable(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    """The public system's pageserver sends a control file that names no checkpoint."""
    env = neon_env_builder.init_start()
    timeline = imported(env, import_bucket)
    endpoint = env.endpoints.create("imported", tenant_id=timeline.tenant_id)
    endpoint._restore()
    control_file = bytearray((endpoint.pgdata_dir / "global/pg_control").read_bytes())
    struct.pack_into("<Q", control_file, 32, 0)
    struct.pack_into("<I", control_file, 288, google_crc32c.value(bytes(control_file[:288])))
    (endpoint.pgdata_dir / "global/pg_control").write_bytes(control_file)
    with endpoint.start():
        validate_import_from_vanilla_pg(endpoint, import_bucket.rows)


def test_what_a_stock_server_cannot_do_is_said(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    env = neon_env_builder.init_start()
    timeline = imported(env, import_bucket)
    with pytest.raises(Unsupported, match="no WAL path"):
        env.endpoints.new_replica()
    with pytest.raises(Unsupported, match="hot standby"):
        env.endpoints.create("imported", tenant_id=timeline.tenant_id, hot_standby=True)
    endpoint = env.endpoints.create("imported", tenant_id=timeline.tenant_id)
    with pytest.raises(Unsupported, match=r"Endpoint.respec.*compute_ctl"):
        _ = endpoint.respec


@pytest.mark.parametrize("change", ["superuser", "database", "login", "everything"])
def test_sql_on_any_cluster(
    neon_env_builder: NeonEnvBuilder,
    pg_bin: PgBin,
    port_distributor: PortDistributor,
    bucket_server: BucketServer,
    test_output_dir: Path,
    change: str,
) -> None:
    """A cluster need not have a role or a database `postgres`, nor a role that may log in."""
    pgdata, user = test_output_dir / "own", "alice" if change in ("superuser", "everything") else "postgres"
    initdb(
        shared_launcher(), pg_bin.distribution, pgdata, ["--no-sync", "--auth=trust", f"--username={user}"]
    )
    with VanillaPostgres(pgdata, pg_bin, port_distributor.get_port(), init=False) as cluster:
        cluster.start()
        with cluster.connect(user=user, dbname="template1") as connection:
            if change in ("database", "everything"):
                connection.execute("alter database postgres rename to main")
            if change in ("login", "everything"):
                # Moves the catalog to another file, too.
                connection.execute("vacuum full pg_authid")
                connection.execute(f"alter role {user} nologin")
    bucket = S3ImportBucket.fill(
        SourceCluster(pgdata, pg_bin.distribution.version, 0), bucket_server, "import", f"own-{change}"
    )
    timeline = neon_env_builder.init_start().start_import(bucket)
    timeline.wait_done()
    with timeline.endpoint() as postgres:
        assert postgres.safe_psql("select rolsuper from pg_roles where rolname = current_user") == [(True,)]
        postgres.stop()
        postgres.start()
        assert postgres.safe_psql_scalar("select 1") == 1
