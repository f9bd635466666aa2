"""What is no regular file in a data directory is imported, or refused by name (I8)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reattach.api.bucket import PreloadResult
from reattach.fixtures.bucket import BucketServer
from reattach.fixtures.imports.bucket import ImportBucket, LocalImportBucket, S3ImportBucket, SourceCluster
from reattach.fixtures.imports.filling import BadSource, NotFilled
from reattach.fixtures.neon_fixtures import NeonEnv, NeonEnvBuilder, VanillaPostgres
from reattach.fixtures.pg_version import PgVersion
from reattach.fixtures.postgres.cluster import own

Fill = Callable[[Path], ImportBucket]


@pytest.fixture(params=["s3", "local_fs"])
def fill(
    request: pytest.FixtureRequest, bucket_server: BucketServer, test_output_dir: Path, pg_version: PgVersion
) -> Fill:
    def fill(pgdata: Path) -> ImportBucket:
        source = SourceCluster(pgdata, int(pg_version), 0)
        if request.param == "s3":
            return S3ImportBucket.fill(source, bucket_server, "import", test_output_dir.name)
        return LocalImportBucket.fill(source, test_output_dir / "bucket")

    return fill


@pytest.fixture
def pgdata(import_source: SourceCluster, tmp_path: Path) -> Path:
    """A data directory that may be changed."""
    copy = tmp_path / "pgdata"
    shutil.copytree(import_source.pgdata, copy, symlinks=True)
    return copy


MOVED = {
    "a segment": lambda pgdata, relation: pgdata / relation,
    "a database": lambda pgdata, relation: (pgdata / relation).parent,
    "pg_xact": lambda pgdata, relation: pgdata / "pg_xact",
    "pg_wal": lambda pgdata, relation: pgdata / "pg_wal",
    "global": lambda pgdata, relation: pgdata / "global",
}


@pytest.mark.parametrize(
    ("what", "fill"),
    [*((what, "s3") for what in MOVED), ("a segment", "local_fs"), ("global", "local_fs")],
    indirect=["fill"],
)
def test_behind_a_link(
    what: str, fill: Fill, neon_env_builder: NeonEnvBuilder, vanilla_pg: VanillaPostgres, tmp_path: Path
) -> None:
    vanilla_pg.start()
    vanilla_pg.safe_psql("create table fruit as select generate_series(1, 1000) id")
    relation = vanilla_pg.safe_psql_scalar("select pg_relation_filepath('fruit')")
    vanilla_pg.stop()
    pgdata = vanilla_pg.pgdatadir
    moved = MOVED[what](pgdata, relation)
    moved.rename(tmp_path / "far")
    moved.symlink_to(tmp_path / "far")

    bucket = fill(pgdata)
    timeline = neon_env_builder.init_start().start_import(bucket)
    timeline.wait_done()
    timeline.assert_equals(bucket)
    with timeline.endpoint() as postgres:
        assert postgres.safe_psql_scalar("select count(*) from fruit") == 1000


def test_a_tablespace_is_refused(fill: Fill, vanilla_pg: VanillaPostgres, tmp_path: Path) -> None:
    own(tmp_path)
    vanilla_pg.start()
    vanilla_pg.safe_psql(f"create tablespace far location '{tmp_path}'")
    vanilla_pg.stop()
    with pytest.raises(BadSource, match=r"^pg_tblspc/\d+: user tablespaces cannot be imported"):
        fill(vanilla_pg.pgdatadir)


def make_socket(path: Path) -> None:
    # The path of a socket has a short limit, that below /proc has not.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


SPECIAL: dict[str, Callable[[Path], None]] = {"a socket": make_socket, "a FIFO": os.mkfifo}


@pytest.mark.parametrize("kind", list(SPECIAL))
def test_beside_the_data_it_is_left_out(
    kind: str, fill: Fill, pgdata: Path, neon_simple_env: NeonEnv, caplog: pytest.LogCaptureFixture
) -> None:
    """Postgres keeps nothing in it, and cluster managers put such things there. It is told."""
    (pgdata / "log").mkdir(exist_ok=True)
    SPECIAL[kind](pgdata / ".s.PGSQL.5432")
    SPECIAL[kind](pgdata / "log" / "pipe")
    bucket = fill(pgdata)
    assert sorted(bucket.left_out) == [".s.PGSQL.5432", "log/pipe"]
    assert "pgdata/log/pipe is no file, and not in the bucket" in caplog.text
    timeline = neon_simple_env.start_import(bucket)
    timeline.wait_done()
    timeline.assert_equals(bucket)


@pytest.mark.parametrize("kind", list(SPECIAL))
@pytest.mark.parametrize(
    "place", ["base/5/16999", "global/16999_fsm", "pg_xact/0009", "pg_multixact/members/0007"]
)
def test_among_the_data_it_is_refused(kind: str, place: str, fill: Fill, pgdata: Path) -> None:
    SPECIAL[kind](pgdata / place)
    with pytest.raises(BadSource, match=rf"^{place}: is {kind}, which cannot be imported"):
        fill(pgdata)


def test_a_link_to_nothing_is_refused(fill: Fill, pgdata: Path) -> None:
    (pgdata / "base/5/16999").symlink_to("nowhere")
    with pytest.raises(BadSource, match=r"^base/5/16999: a symbolic link that leads nowhere"):
        fill(pgdata)


@pytest.mark.parametrize("target", ["base", "base/5/loop"], ids=["into_its_folder", "to_itself"])
def test_a_loop_is_refused(target: str, fill: Fill, pgdata: Path) -> None:
    (pgdata / "base/5/loop").symlink_to(pgdata / target)
    with pytest.raises(BadSource, match=r"^base/5/loop"):
        fill(pgdata)


LOST = r"base/5/1259: \d+ bytes in the data directory, absent in the bucket"


def test_a_filling_that_leaves_something_out_is_noticed_in_s3(
    pgdata: Path, bucket_server: BucketServer, test_output_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check looks at the data directory with eyes of its own."""
    whole = bucket_server.preload

    def forgetful(directory: Path, bucket: str, prefix: str = "") -> PreloadResult:
        result = whole(directory, bucket, prefix)
        bucket_server.delete(bucket, f"{prefix}/base/5/1259")
        return result

    monkeypatch.setattr(bucket_server, "preload", forgetful)
    with pytest.raises(NotFilled, match=LOST):
        S3ImportBucket.fill(SourceCluster(pgdata, 16, 0), bucket_server, "import", test_output_dir.name)


def test_a_filling_that_leaves_something_out_is_noticed_in_a_directory(
    pgdata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(source: Path, target: Path, ignore: object) -> None:
        subprocess.run(["cp", "-a", f"{source}/.", target], check=True)
        (target / "base/5/1259").unlink()

    (tmp_path / "bucket/pgdata").mkdir(parents=True)
    monkeypatch.setattr(shutil, "copytree", forgetful)
    with pytest.raises(NotFilled, match=LOST):
        LocalImportBucket.fill(SourceCluster(pgdata, 16, 0), tmp_path / "bucket")


def test_an_import_of_what_is_no_file_starts_and_is_refused(
    neon_env_builder: NeonEnvBuilder, local_import_bucket: LocalImportBucket
) -> None:
    """I11: also if it has become a FIFO since the bucket was filled; a test is told by the import's error."""
    control_file = local_import_bucket.directory / "pgdata/global/pg_control"
    control_file.unlink()
    os.mkfifo(control_file)
    env = neon_env_builder.init_start()
    env.pageserver.allowed_errors.append(".*task failed: .*")
    env.storage_controller.allowed_errors.append(".*Timeline import completed with shard errors.*")
    error = env.start_import(local_import_bucket).wait_failed()
    assert "pgdata/global/pg_control: a named pipe, not a file" in error
