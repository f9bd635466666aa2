"""A cluster with one of everything comes back equal and answers the same queries (I8)."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest

from reattach.fixtures.imports.bucket import LocalImportBucket, SourceCluster
from reattach.fixtures.log_helper import log
from reattach.fixtures.neon_fixtures import (
    NeonEnvBuilder,
    PageserverImportConfig,
    PgBin,
    PgProtocol,
    PortDistributor,
    VanillaPostgres,
)
from reattach.fixtures.postgres.cluster import ClusterOptions
from reattach.fixtures.postgres.datasets import Dataset, DatasetCache
from reattach.fixtures.row_checksums import RowChecksums, row_checksums
from test_runner.regress.rich_data import MANY_TABLES, QUERIES, populate_rich

pytestmark = pytest.mark.endpoint


def answers(postgres: PgProtocol) -> dict[str, object]:
    settings = ["set enable_seqscan = off", "set enable_bitmapscan = on"]
    rows = postgres.safe_psql_many([*settings, *QUERIES], log_query=False)
    return dict(zip(QUERIES, rows[len(settings) :], strict=True))


class ComesBack(Protocol):
    """Imports a cluster with one of everything and so many tables, and compares; 0 shards is unsharded."""

    def __call__(self, tables: int, shard_count: int) -> None: ...


@pytest.mark.every_pg_version
def test_rich_cluster(comes_back_equal: ComesBack) -> None:
    comes_back_equal(tables=50, shard_count=0)


@pytest.mark.slow
def test_rich_cluster_with_many_tables(comes_back_equal: ComesBack) -> None:
    comes_back_equal(tables=MANY_TABLES, shard_count=4)


@pytest.fixture
def comes_back_equal(
    neon_env_builder: NeonEnvBuilder,
    pg_datasets: DatasetCache,
    pg_bin: PgBin,
    port_distributor: PortDistributor,
    test_output_dir: Path,
) -> ComesBack:
    def comes_back_equal(tables: int, shard_count: int) -> None:
        dataset: Dataset[RowChecksums] = pg_datasets.get(
            f"rich({tables})",
            lambda postgres: populate_rich(postgres, tables),
            pg_bin,
            options=ClusterOptions(checksums=True),
            settings=["autovacuum = off"],
        )
        source = SourceCluster(dataset.pgdata, pg_bin.distribution.version, rows=0)
        assert_has_one_of_everything(source.pgdata)
        copy = test_output_dir / "source"
        dataset.copy_to(copy)
        with VanillaPostgres(copy, pg_bin, port_distributor.get_port(), init=False) as postgres:
            postgres.start()
            expected = answers(postgres)

        # Stripes are small, so that also small relations have pages in several shards.
        neon_env_builder.pageserver_import_config = PageserverImportConfig(4, 4 << 20, 4)
        env = neon_env_builder.init_start()
        timeline = env.start_import(
            LocalImportBucket.fill(source, test_output_dir / "bucket"), shard_count=shard_count, stripe_size=8
        )
        timeline.wait_done(timeout=120)
        timeline.assert_equals(timeline.bucket)

        endpoint = env.endpoints.create_from_backup(timeline, config_lines=["autovacuum = off"])
        assert answers(endpoint) == expected
        assert row_checksums(endpoint) == dataset.result
        if endpoint.amcheck_missing is None:
            endpoint.pg_amcheck(heapallindexed=True)
        else:
            log.warning("pg_amcheck did not run: %s", endpoint.amcheck_missing)
        endpoint.safe_psql_many(["insert into no_pages values (1, 'x')", "checkpoint"])
        endpoint.stop()
        if endpoint.checksums_missing is None:
            assert endpoint.pg_checksums() > 0
        else:
            log.warning("pg_checksums did not run: %s", endpoint.checksums_missing)

    return comes_back_equal


def assert_has_one_of_everything(pgdata: Path) -> None:
    """What the test is about is in the files, so that it cannot pass for want of it."""
    databases = [path for path in (pgdata / "base").iterdir() if path.is_dir()]
    assert len(databases) >= 6
    names = [path.name for database in databases for path in database.iterdir()]
    assert [name for name in names if name.endswith("_init")]
    assert [name for name in names if name.endswith("_vm")]
    assert (pgdata / "pg_xact/0000").stat().st_size > 8192
    assert any((pgdata / "pg_multixact/members/0000").read_bytes())
    assert any(path.stat().st_size == 0 for database in databases for path in database.glob("[0-9]*"))
