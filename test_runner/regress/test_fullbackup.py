"""Full backups of an imported timeline, over HTTP and as `psql` gets them from the libpq port."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg
import pytest
import requests

from reattach.fixtures.fast_import import validate_import_from_vanilla_pg
from reattach.fixtures.imports.bucket import ImportBucket
from reattach.fixtures.imports.handle import ImportTimeline
from reattach.fixtures.neon_fixtures import (
    Lsn,
    NeonEnv,
    NeonEnvBuilder,
    PgBin,
    PortDistributor,
    TenantId,
    TimelineId,
    VanillaPostgres,
)


def imported(env: NeonEnv, bucket: ImportBucket) -> ImportTimeline:
    timeline = env.start_import(bucket)
    timeline.wait_done()
    return timeline


def backup_url(timeline: ImportTimeline) -> str:
    port = timeline.env.pageserver.service_port.http
    timeline_url = f"tenant/{timeline.tenant_id}/timeline/{timeline.timeline_id}"
    return f"http://127.0.0.1:{port}/v1/{timeline_url}/fullbackup"


def extract(tar: Path, directory: Path) -> Path:
    directory.mkdir(mode=0o700)
    subprocess.run(["tar", "-xf", tar, "-C", directory], check=True)
    return directory


@pytest.mark.endpoint
def test_fullbackup_by_psql_starts(
    neon_env_builder: NeonEnvBuilder,
    import_bucket: ImportBucket,
    pg_bin: PgBin,
    port_distributor: PortDistributor,
    test_output_dir: Path,
) -> None:
    """The tool call of existing tests: psql, tar, and a stock server that starts on the result."""
    env = neon_env_builder.init_start()
    timeline = imported(env, import_bucket)
    lsn = Lsn(
        env.pageserver.http_client().timeline_detail(timeline.tenant_id, timeline.timeline_id)[
            "last_record_lsn"
        ]
    )
    tar = test_output_dir / "fullbackup.tar"
    pg_bin.take_fullbackup(env.pageserver, timeline.tenant_id, timeline.timeline_id, lsn, tar)
    pgdata = extract(tar, test_output_dir / "restored")
    with VanillaPostgres(pgdata, pg_bin, port_distributor.get_port(), init=False) as postgres:
        postgres.start(test_output_dir / "restored.log")
        validate_import_from_vanilla_pg(postgres, import_bucket.rows)


def test_http_and_libpq_send_the_same(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket, pg_bin: PgBin, test_output_dir: Path
) -> None:
    env = neon_env_builder.init_start()
    timeline = imported(env, import_bucket)
    detail = env.pageserver.http_client().timeline_detail(timeline.tenant_id, timeline.timeline_id)
    by_psql = test_output_dir / "psql.tar"
    pg_bin.take_fullbackup(
        env.pageserver, timeline.tenant_id, timeline.timeline_id, Lsn(detail["initdb_lsn"]), by_psql
    )
    answer = requests.get(backup_url(timeline), timeout=60)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-tar"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.content == by_psql.read_bytes()


def test_what_cannot_be_backed_up_is_said(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket, pg_bin: PgBin, test_output_dir: Path
) -> None:
    """Wrong ids and LSNs are answered with a reason, and the server goes on."""
    env = neon_env_builder.init_start()
    timeline = imported(env, import_bucket)
    url = backup_url(timeline)
    ids = f"{timeline.tenant_id} {timeline.timeline_id}"
    nowhere = TimelineId.generate()

    assert requests.get(url.replace(str(timeline.timeline_id), str(nowhere)), timeout=60).status_code == 404
    assert requests.get(url, params={"lsn": "no lsn"}, timeout=60).status_code == 400
    answer = requests.get(url, params={"lsn": "FFFF/0"}, timeout=60)
    assert answer.status_code == 400
    assert "not at FFFF/0" in answer.json()["msg"]

    for command, reason in {
        f"fullbackup {timeline.tenant_id} {nowhere}": "was not found",
        f"fullbackup {ids} 0/1": "not at 0/1",
        f"fullbackup {ids} xyz": "an LSN looks like",
        f"fullbackup {timeline.tenant_id}": "a tenant, a timeline and at most two LSNs",
        f"basebackup {ids}": "unsupported command: basebackup",
    }.items():
        with pytest.raises(subprocess.CalledProcessError) as failure:
            pg_bin.run(["psql", "--no-psqlrc", env.pageserver.connstr(), "-c", command])
        assert reason in failure.value.stderr
    pg_bin.run(
        ["psql", "--no-psqlrc", env.pageserver.connstr(), "-c", f"fullbackup {ids}", "-o", "/dev/null"]
    )


def test_backup_needs_a_token_with_authentication(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    neon_env_builder.auth_enabled = True
    env = neon_env_builder.init_start()
    env.pageserver.allowed_errors.append(".*Unauthorized: missing authorization header.*")
    timeline = imported(env, import_bucket)
    assert requests.get(backup_url(timeline), timeout=60).status_code == 401
    with pytest.raises(Exception, match="malformed token"):
        env.pageserver.connect(password="nonsense")
    with pytest.raises(Exception, match="tenant id is missing"):
        env.pageserver.connect(password=env.auth_keys.generate_token(scope="tenant"))
    stranger = env.auth_keys.generate_tenant_token(TenantId.generate())
    with env.pageserver.connect(password=stranger) as connection, connection.cursor() as cursor:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            with cursor.copy(f"fullbackup {timeline.tenant_id} {timeline.timeline_id}") as copy:
                assert not list(copy)
    timeline.assert_equals(import_bucket)
