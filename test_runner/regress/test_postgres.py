"""PostgreSQL for tests: versions, data directories, servers, databases."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil
import psycopg
import pytest

from reattach.fixtures.common_types import Lsn
from reattach.fixtures.fast_import import (
    mock_import_bucket,
    populate_vanilla_pg,
    validate_import_from_vanilla_pg,
)
from reattach.fixtures.pg_version import PgVersion
from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.postgres.binaries import PgBin
from reattach.fixtures.postgres.cluster import ClusterCache, ClusterOptions, initdb
from reattach.fixtures.postgres.databases import DatabaseServer, url_of
from reattach.fixtures.postgres.datasets import DatasetCache
from reattach.fixtures.postgres.distributions import (
    Distribution,
    NoPostgres,
    arrange,
    available_versions,
    discover,
)
from reattach.fixtures.processes import CommandFailed, Launcher, ProcessDied, ProcessError, wait_for
from reattach.fixtures.utils import query_scalar
from reattach.fixtures.vanilla_postgres import VanillaPostgres
from test_runner.inner import PYTEST

KIB = 1024


class TestVersions:
    @pytest.mark.parametrize("text", ["16", "v16", "V16", "160004"])
    def test_forms(self, text: str) -> None:
        assert PgVersion(text) is PgVersion.V16
        assert PgVersion(text).v_prefixed == "v16"
        assert f"{PgVersion(text)}" == "16"

    @pytest.mark.parametrize("text", ["", "v", "13", "sixteen", "1600", "v16x", "16000"])
    def test_others_are_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="is not a valid PgVersion"):
            PgVersion(text)

    def test_embedded_is_always_there(self, tmp_path: Path) -> None:
        assert discover(tmp_path, {})[16].release.startswith("16.")
        assert PgVersion.DEFAULT in available_versions(tmp_path, {})

    def test_fetched_is_preferred(self, tmp_path: Path) -> None:
        embedded = discover(tmp_path, {})[16]
        (tmp_path / "pg_install").mkdir()
        (tmp_path / "pg_install" / "v16").symlink_to(embedded.path)
        assert discover(tmp_path, {})[16].path == tmp_path / "pg_install" / "v16"

    @pytest.mark.parametrize("folder", ["v16", ""])
    def test_distrib_dir_is_the_only_one(self, tmp_path: Path, folder: str) -> None:
        embedded = discover(tmp_path, {})[16]
        chosen = tmp_path / "chosen"
        if folder:
            chosen.mkdir()
        (chosen / folder if folder else chosen).symlink_to(embedded.path)
        assert list(discover(tmp_path, {"POSTGRES_DISTRIB_DIR": str(chosen)})) == [16]

    def test_distrib_dir_without_postgres(self, tmp_path: Path) -> None:
        with pytest.raises(NoPostgres, match=f"POSTGRES_DISTRIB_DIR={tmp_path} has no v14"):
            discover(tmp_path, {"POSTGRES_DISTRIB_DIR": str(tmp_path)})

    def test_version_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(NoPostgres, match=r"there is no PostgreSQL 14 in .*v14; scripts/fetch-postgres"):
            PgBin(tmp_path, tmp_path, PgVersion.V14)


@pytest.mark.parametrize("checksums", [False, True])
def test_options_reach_initdb(
    pg_clusters: ClusterCache,
    pg_bin: PgBin,
    port_distributor: PortDistributor,
    test_output_dir: Path,
    checksums: bool,
) -> None:
    pgdata = test_output_dir / "pgdata"
    pg_clusters.create(pg_bin.distribution, pgdata, ClusterOptions(checksums=checksums))
    with VanillaPostgres(pgdata, pg_bin, port_distributor.get_port(), init=False) as postgres:
        postgres.start()
        assert postgres.safe_psql_scalar("show data_checksums") == ("on" if checksums else "off")


def test_initdb_that_fails_says_why(pg_clusters: ClusterCache, pg_bin: PgBin, test_output_dir: Path) -> None:
    for _ in range(2):  # the cache keeps no failure
        with pytest.raises(CommandFailed, match="invalid locale name"):
            pg_clusters.create(
                pg_bin.distribution, test_output_dir / "pgdata", ClusterOptions(locale="klingon")
            )
    assert not (test_output_dir / "pgdata").exists()


class TestVanilla:
    def test_life(self, vanilla_pg: VanillaPostgres) -> None:
        assert not vanilla_pg.is_running()
        vanilla_pg.stop()
        vanilla_pg.configure(["application_name = 'first'", "application_name = 'second'"])
        vanilla_pg.start()
        assert vanilla_pg.is_running()
        assert vanilla_pg.safe_psql("show application_name") == [("second",)]
        with pytest.raises(RuntimeError, match="stop the server first"):
            vanilla_pg.configure(["port = 1"])
        with pytest.raises(ProcessError, match="runs already"):
            vanilla_pg.start()
        vanilla_pg.stop()
        assert not vanilla_pg.is_running()
        with pytest.raises(psycopg.OperationalError):
            vanilla_pg.connect()
        assert vanilla_pg.start().safe_psql_scalar("select 1") == 1

    def test_kill_recovers(self, vanilla_pg: VanillaPostgres) -> None:
        vanilla_pg.start()
        vanilla_pg.safe_psql("create table t as select generate_series(1, 1000) a")
        for _ in range(3):
            vanilla_pg.server.kill()
            assert not vanilla_pg.is_running()
            vanilla_pg.start()
            assert vanilla_pg.safe_psql_scalar("select count(*) from t") == 1000
        assert "automatic recovery in progress" in (vanilla_pg.pgdatadir / "pg.log").read_text()

    def test_death_is_noticed(self, vanilla_pg: VanillaPostgres) -> None:
        vanilla_pg.start()
        process = vanilla_pg.server.process
        assert process is not None
        process.send_signal(3)
        process.wait(10)
        assert not vanilla_pg.is_running()
        with pytest.raises(ProcessDied, match=r"(?s)vanilla_pg ended .* before it was stopped.*immediate"):
            vanilla_pg.stop()
        vanilla_pg.stop()

    def test_start_that_fails_says_why_and_can_be_mended(self, vanilla_pg: VanillaPostgres) -> None:
        vanilla_pg.configure(["shared_buffers = 'plenty'"])
        with pytest.raises(ProcessDied, match=r"(?s)exit code 1 while .*accept.*invalid value.*shared_buf"):
            vanilla_pg.start()
        assert not vanilla_pg.is_running()
        vanilla_pg.stop()
        vanilla_pg.configure(["shared_buffers = 16MB"])
        vanilla_pg.start()

    def test_leaves_no_shared_memory(self, vanilla_pg: VanillaPostgres) -> None:
        segments = Path("/proc/sysvipc/shm")
        vanilla_pg.start()
        assert vanilla_pg.server.process is not None
        pid = str(vanilla_pg.server.process.pid)
        assert pid in segments.read_text().split()
        vanilla_pg.server.kill()
        assert pid not in segments.read_text().split()

    def test_library_of_the_public_system_is_not_asked_for(self, vanilla_pg: VanillaPostgres) -> None:
        vanilla_pg.configure(["shared_preload_libraries='neon_rmgr'", "work_mem = 3MB"])
        vanilla_pg.start()
        assert vanilla_pg.safe_psql_scalar("show work_mem") == "3MB"
        vanilla_pg.stop()
        vanilla_pg.configure(["shared_preload_libraries='klingon'"])
        with pytest.raises(ProcessDied, match="klingon"):
            vanilla_pg.start()

    def test_hba(self, vanilla_pg: VanillaPostgres) -> None:
        vanilla_pg.edit_hba(["host all nobody_else 127.0.0.1/32 reject"])
        vanilla_pg.start()
        vanilla_pg.safe_psql("create user nobody_else")
        with pytest.raises(psycopg.OperationalError, match="rejects connection"):
            vanilla_pg.connect(user="nobody_else")

    def test_tls(self, vanilla_pg: VanillaPostgres) -> None:
        vanilla_pg.enable_tls()
        try:
            vanilla_pg.start()
        except ProcessDied as e:
            if "not supported by this build" not in str(e):
                raise
            pytest.skip("this PostgreSQL was built without TLS")
        query = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
        assert vanilla_pg.safe_psql(query, sslmode="require") == [(True,)]

    def test_sizes(self, vanilla_pg: VanillaPostgres) -> None:
        files = (vanilla_pg.pgdatadir / "global").iterdir()
        assert vanilla_pg.get_subdir_size("global") == sum(file.stat().st_size for file in files) > 0

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root has directories that others cannot reach")
    def test_below_a_folder_that_only_root_may_enter(
        self, test_output_dir: Path, pg_bin: PgBin, port_distributor: PortDistributor
    ) -> None:
        """As in a checkout in root's home, in a path with a space."""
        hidden = test_output_dir / "only root"
        hidden.mkdir(mode=0o700)
        with VanillaPostgres(hidden / "pg data", pg_bin, port_distributor.get_port()) as postgres:
            postgres.start()
            assert postgres.safe_psql_scalar("select 1") == 1


class TestProtocol:
    def test_connection_options(self, vanilla_pg: VanillaPostgres) -> None:
        options = vanilla_pg.conn_options(user=None, dbname="x", dsn="host=elsewhere dbname=y")
        assert options["host"] == "elsewhere"
        assert options["dbname"] == "x"
        assert "user" not in options
        assert options["options"] == "-cstatement_timeout=120s"
        assert str(vanilla_pg.conn_options(options="-cwork_mem=1MB")["options"]).endswith(" -cwork_mem=1MB")
        mine = "-cstatement_timeout=1s"
        assert vanilla_pg.conn_options(options=mine)["options"] == mine
        assert "options" not in vanilla_pg.conn_options(host="a-pooler.example")
        assert vanilla_pg.default_options["host"] == "127.0.0.1"

    def test_queries(self, vanilla_pg: VanillaPostgres) -> None:
        vanilla_pg.start()
        assert vanilla_pg.safe_psql_many(
            [
                "create table t(a int); insert into t values (1), (2)",
                "select a from t order by a",
                "select '%s'",
            ]
        ) == [[], [(1,), (2,)], [("%s",)]]
        assert vanilla_pg.safe_psql_scalar("show statement_timeout") == "2min"
        with pytest.raises(ValueError, match="no row"):
            vanilla_pg.safe_psql_scalar("select 1 where false")
        with vanilla_pg.cursor(autocommit=False) as cursor:
            cursor.execute("insert into t values (3)")
        assert vanilla_pg.safe_psql_scalar("select count(*) from t") == 2
        with psycopg.connect(vanilla_pg.connstr()) as connection:
            assert connection.execute("select 7").fetchone() == (7,)

    def test_async(self, vanilla_pg: VanillaPostgres) -> None:
        import asyncio

        async def query() -> object:
            async with await vanilla_pg.connect_async() as connection:
                return await (await connection.execute("select 7")).fetchone()

        vanilla_pg.start()
        assert asyncio.run(query()) == (7,)


class TestBinaries:
    def test_run(self, pg_bin: PgBin) -> None:
        command = ["psql", "--version"]
        pg_bin.run(command)
        assert command == ["psql", "--version"]
        process = pg_bin.run_nonblocking(command)
        assert process.communicate(timeout=10)[0].startswith("psql (PostgreSQL) ")
        with pytest.raises(Exception, match="returned non-zero exit status"):
            pg_bin.run(["psql", "--nonsense"])

    def test_run_capture(self, pg_bin: PgBin, vanilla_pg: VanillaPostgres, test_output_dir: Path) -> None:
        vanilla_pg.start()
        base = pg_bin.run_capture(["psql", "-At", "-c", "select 6 * 7", vanilla_pg.connstr()])
        assert Path(base).parent == test_output_dir
        header, empty, answer = Path(f"{base}.stdout").read_text().splitlines()
        assert header.startswith("# ") and "select 6 * 7" in header
        assert (empty, answer) == ("", "42")
        assert not Path(f"{base}.stderr").exists()
        with pytest.raises(Exception, match="returned non-zero exit status") as error:
            pg_bin.run_capture(["psql", "-c", "nonsense", vanilla_pg.connstr()])
        assert "syntax error" in error.value.stderr  # type: ignore[attr-defined]

    def test_programs_that_refuse_root(self, pg_bin: PgBin, vanilla_pg: VanillaPostgres) -> None:
        pg_bin.run(["pg_ctl", "--version"])
        process = pg_bin.run_nonblocking(["pg_ctl", "-D", str(vanilla_pg.pgdatadir), "status"])
        assert "no server running" in process.communicate(timeout=20)[0]
        vanilla_pg.start()

    def test_checkpoint_lsn(self, pg_bin: PgBin, vanilla_pg: VanillaPostgres) -> None:
        vanilla_pg.start()
        vanilla_pg.safe_psql("checkpoint")
        seen = Lsn(str(vanilla_pg.safe_psql_scalar("select checkpoint_lsn from pg_control_checkpoint()")))
        assert pg_bin.get_pg_controldata_checkpoint_lsn(vanilla_pg.pgdatadir) == seen


class TestDatasets:
    def test_filled_once_and_copied(
        self,
        pg_datasets: DatasetCache,
        pg_bin: PgBin,
        port_distributor: PortDistributor,
        test_output_dir: Path,
    ) -> None:
        calls: list[VanillaPostgres] = []

        def populate(postgres: VanillaPostgres) -> int:
            calls.append(postgres)
            return populate_vanilla_pg(postgres, 512 * KIB)

        for copy in ("first", "second"):
            dataset = pg_datasets.get(f"test {__name__} 512 KiB", populate, pg_bin)
            assert dataset.result == 64
            target = test_output_dir / copy
            dataset.copy_to(target)
            port = port_distributor.get_port()
            with VanillaPostgres(target, pg_bin, port, init=False) as postgres:
                postgres.start()
                validate_import_from_vanilla_pg(postgres, dataset.result)
                with pytest.raises(AssertionError, match=r"table t has \(rows, sum\) \[\(64, 2080\)\]"):
                    validate_import_from_vanilla_pg(postgres, dataset.result + 1)
                postgres.safe_psql("drop table t")
        assert len(calls) == 1
        assert not calls[0].is_running()

    def test_mock_import_bucket(self, vanilla_pg: VanillaPostgres, test_output_dir: Path) -> None:
        bucket = test_output_dir / "bucket"
        vanilla_pg.start()
        rows = populate_vanilla_pg(vanilla_pg, 100 * KIB)
        assert vanilla_pg.safe_psql_scalar("select pg_relation_size('t')") >= 100 * KIB
        assert vanilla_pg.safe_psql_scalar("select count(distinct (ctid::text::point)[0]) from t") == rows
        with pytest.raises(RuntimeError, match="stop the server first"):
            mock_import_bucket(vanilla_pg, bucket)
        vanilla_pg.stop()
        mock_import_bucket(vanilla_pg, bucket)
        assert (bucket / "pgdata" / "global" / "pg_control").exists()
        assert (bucket / "status" / "pgdata").read_text() == '{"done": true}'
        assert (bucket / "status" / "fast_import").read_text() == '{"command": "pgdata", "done": true}'
        assert (bucket / "spec.json").exists()
        assert not vanilla_pg.pgdatadir.exists()


class TestDatabases:
    def test_prepared_once_and_copied(self, database_server: DatabaseServer) -> None:
        calls: list[str] = []

        def prepare(url: str) -> None:
            calls.append(url)
            with psycopg.connect(url) as connection:
                connection.execute("create table t as select generate_series(1, 3) a")

        databases = [database_server.create_prepared(f"test {__name__}", prepare) for _ in range(3)]
        assert len(calls) == 1
        assert len({database.url for database in databases}) == 3
        for database in databases:
            with psycopg.connect(database.url, autocommit=True) as connection:
                assert connection.execute("select count(*) from t").fetchone() == (3,)
                connection.execute("drop table t")
                database_server.drop_database(database.name)
                database_server.drop_database(database.name)

    def test_kill_loses_no_commit(self, database_server: DatabaseServer) -> None:
        server = database_server.server
        if server is None:
            pytest.skip("DATABASE_URL names a server that is not ours to kill")
        database = database_server.create_database()
        with psycopg.connect(database.url) as connection:
            connection.execute("create table t as select 1")
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(database.url, connect_timeout=5)
        server.start()
        with psycopg.connect(database.url) as connection:
            assert connection.execute("select count(*) from t").fetchone() == (1,)
        database_server.drop_database(database.name)

    def test_server_of_someone_else_gets_its_databases_dropped(self, database_server: DatabaseServer) -> None:
        other = DatabaseServer(database_server.url)
        names = {other.create_database().name for _ in range(2)}
        other.close()
        with psycopg.connect(database_server.url) as connection:
            left = {row[0] for row in connection.execute("select datname from pg_database")}
        assert not names & left

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("postgresql://u@h:1/a", "postgresql://u@h:1/b%20c"),
            (
                "postgresql://u:p%40@[::1]:5/x?sslmode=require",
                "postgresql://u:p%40@[::1]:5/b%20c?sslmode=require",
            ),
            ("host=/run/pg user=u password='x y'", "postgresql://u:x%20y@%2Frun%2Fpg/b%20c"),
        ],
    )
    def test_url(self, given: str, expected: str) -> None:
        assert url_of(given, "b c") == expected


class TestArranged:
    def test_all_are_there(self, pg_distrib_dir: Path, pg_distributions: Mapping[int, Distribution]) -> None:
        for version, distribution in pg_distributions.items():
            postgres = pg_distrib_dir / f"v{version}" / "bin" / "postgres"
            assert postgres.resolve() == (distribution.bin_dir / "postgres").resolve()

    def test_lent_programs(self, tmp_path: Path) -> None:
        """A distribution that has the server only gets its clients from the next newer one."""

        def make(version: int, *programs: str) -> Distribution:
            path = tmp_path / f"pg{version}"
            for name in programs:
                (path / "bin").mkdir(parents=True, exist_ok=True)
                (path / "bin" / name).touch()
            return Distribution(version, f"{version}.1", path)

        distributions = {
            14: make(14, "postgres", "psql"),
            15: make(15, "postgres"),
            16: make(16, "postgres", "psql", "pg_checksums", "pg_resetwal"),
            17: make(17, "postgres"),
            18: make(18, "postgres", "psql", "pg_amcheck", "pg_checksums"),
        }
        for _ in range(2):
            arrange(distributions, list(distributions.values()), tmp_path / "all")
        seen = {
            version: {file.name: file.resolve().parent.parent.name for file in folder.iterdir()}
            for version in distributions
            for folder in [tmp_path / "all" / f"v{version}" / "bin"]
        }
        assert seen == {
            14: {"postgres": "pg14", "psql": "pg14", "pg_checksums": "pg16", "pg_amcheck": "pg18"},
            15: {"postgres": "pg15", "psql": "pg16", "pg_checksums": "pg16", "pg_amcheck": "pg18"},
            16: {
                "postgres": "pg16",
                "psql": "pg16",
                "pg_checksums": "pg16",
                "pg_resetwal": "pg16",
                "pg_amcheck": "pg18",
            },
            17: {"postgres": "pg17", "psql": "pg18", "pg_amcheck": "pg18"},
            18: {"postgres": "pg18", "psql": "pg18", "pg_amcheck": "pg18", "pg_checksums": "pg18"},
        }
        with pytest.raises(NoPostgres, match=r"PostgreSQL 17.1 in .*pg17 has no program pg_checksums"):
            distributions[17].program("pg_checksums")

    def test_change_is_followed(self, tmp_path: Path) -> None:
        embedded = discover(tmp_path, {})[16]
        moved = tmp_path / "moved"
        moved.symlink_to(embedded.path)
        for path in (embedded.path, moved):
            distributions = {16: Distribution(16, embedded.release, path)}
            arrange(distributions, list(distributions.values()), tmp_path / "all")
            assert (tmp_path / "all" / "v16" / "bin" / "psql").readlink() == path / "bin" / "psql"
        assert not (tmp_path / "all" / "v16" / "bin" / "nonsense").exists()


def test_killed_run_leaves_nothing(pytester: pytest.Pytester) -> None:
    """No process, no shared memory and no data directory of the controller's server."""
    pytester.makepyfile(
        """
        import time
        from pathlib import Path

        def test_it(database_server):
            server = database_server.server
            Path("new").write_text(f"{server.process.pid} {server.pgdata}")
            Path("new").rename("server")
            time.sleep(600)
        """
    )
    file = pytester.path / "server"
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    with subprocess.Popen(PYTEST, cwd=pytester.path, env=environment, stdout=subprocess.DEVNULL) as run:
        try:
            pid, _, pgdata = wait_for(
                lambda: file.read_text().partition(" ") if file.exists() else None,
                what="the server",
                timeout=60,
            )
            segments = Path("/proc/sysvipc/shm")
            assert pid in segments.read_text().split()
            assert Path(pgdata).exists()
            run.kill()
            run.wait()
            wait_for(
                lambda: pid not in segments.read_text().split() and not Path(pgdata).exists(),
                what="shared memory and data directory to be gone",
                timeout=2,
            )
            assert not psutil.pid_exists(int(pid))
        finally:
            run.kill()


def test_results_need_no_casts(vanilla_pg: VanillaPostgres) -> None:
    """What a test does with results every day, which mypy reads as well."""
    with vanilla_pg:
        vanilla_pg.start()
        vanilla_pg.safe_psql("create table fruit as select 'apple' as name, 3 as count")
        assert vanilla_pg.safe_psql_scalar("select count(*) from fruit") == 1
        assert int(vanilla_pg.safe_psql_scalar("select sum(count) from fruit")) + 1 == 4
        assert vanilla_pg.safe_psql_scalar("select pg_relation_size('fruit')") >= 8192
        assert Lsn(str(vanilla_pg.safe_psql_scalar("select pg_current_wal_lsn()"))) > Lsn(0)
        assert vanilla_pg.safe_psql("select null") == [(None,)]
        rows = vanilla_pg.safe_psql("select name, count from fruit")
        assert rows == [("apple", 3)]
        for name, count in rows:
            assert (name, count) == ("apple", 3)
        with vanilla_pg.cursor() as cursor:
            assert query_scalar(cursor, "select max(count) from fruit") < 4
        with pytest.raises(TypeError):
            int(vanilla_pg.safe_psql_scalar("select null"))


@pytest.mark.skipif(os.geteuid() != 0, reason="about root")
def test_programs_that_only_root_may_execute(launcher: Launcher, tmp_path: Path) -> None:
    """As an installation with umask 077 leaves them: what to do is told."""
    program = tmp_path / "bin" / "initdb"
    program.parent.mkdir()
    program.touch(0o700)
    with pytest.raises(NoPostgres, match=rf"only root may execute {program}.*: chmod -R go\+rX {tmp_path}"):
        initdb(launcher, Distribution(16, "16.0", tmp_path), tmp_path / "data", [])
    assert not (tmp_path / "data").exists()
