"""Data that can never be imported ends the import with an error that names the object and the reason."""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import pytest

from reattach.fixtures.control_plane import ControlPlane
from reattach.fixtures.imports.bucket import ImportBucket, LocalImportBucket, SourceCluster
from reattach.fixtures.judge.requests import requests
from reattach.fixtures.neon_fixtures import NeonEnvBuilder, VanillaPostgres
from reattach.fixtures.postgres.binaries import PgBin
from reattach.fixtures.postgres.datasets import DatasetCache
from reattach.fixtures.waiting import wait_until

CONTROL_FILE = "pgdata/global/pg_control"

Spoil = Callable[[ImportBucket], str]
"""Spoils the bucket; returns what the error has to say."""


def edit_control_file(bucket: ImportBucket, offset: int, value: bytes, *, fix_crc: bool = True) -> None:
    content = bytearray(bucket.get(CONTROL_FILE))
    content[offset : offset + len(value)] = value
    if fix_crc:
        content[288:292] = struct.pack("<I", google_crc32c.value(bytes(content[:288])))
    bucket.put(CONTROL_FILE, bytes(content))


def no_control_file(bucket: ImportBucket) -> str:
    bucket.delete(CONTROL_FILE)
    return CONTROL_FILE


def short_control_file(bucket: ImportBucket) -> str:
    bucket.put(CONTROL_FILE, bucket.get(CONTROL_FILE)[:200])
    return "control file is too short"


def bad_crc(bucket: ImportBucket) -> str:
    edit_control_file(bucket, 0, b"\xff" * 8, fix_crc=False)
    return "invalid CRC in control file"


def unknown_catalog(bucket: ImportBucket) -> str:
    edit_control_file(bucket, 12, struct.pack("<I", 202506291))
    return "unrecognized catalog version 202506291"


def not_shut_down(bucket: ImportBucket) -> str:
    in_production = 6
    edit_control_file(bucket, 16, struct.pack("<I", in_production))
    return "shut down"


def no_relmap(bucket: ImportBucket) -> str:
    bucket.delete("pgdata/global/pg_filenode.map")
    return "pgdata/global/pg_filenode.map"


def odd_size(bucket: ImportBucket) -> str:
    name = bucket.largest_relation_file()
    bucket.put(name, bucket.get(name)[:-1])
    return name


def tablespace(bucket: ImportBucket) -> str:
    bucket.put("pgdata/pg_tblspc/16999/PG_16_202307071/5/17000", bytes(8192))
    return "tablespace"


def bad_status(bucket: ImportBucket) -> str:
    bucket.put("status/pgdata", b"this is not JSON")
    return "status/pgdata"


SPOILT = (
    *(no_control_file, short_control_file, bad_crc, unknown_catalog, not_shut_down),
    *(no_relmap, odd_size, tablespace, bad_status),
)


@pytest.mark.parametrize(
    ("spoil", "place"),
    [*((spoil, "s3") for spoil in SPOILT), (no_control_file, "local_fs"), (bad_status, "local_fs")],
)
def test_import_refuses(
    neon_env_builder: NeonEnvBuilder,
    control_plane: ControlPlane,
    import_bucket: ImportBucket,
    local_import_bucket: ImportBucket,
    spoil: Spoil,
    place: str,
) -> None:
    """I7, I11: told once, with the reason; no row is left pending and no pageserver is stuck."""
    bucket = local_import_bucket if place == "local_fs" else import_bucket
    reason = spoil(bucket)
    env = neon_env_builder.init_start()
    env.pageserver.allowed_errors.append(".*task failed: .*")
    env.storage_controller.allowed_errors.append(".*Timeline import completed with shard errors.*")

    timeline = env.start_import(bucket, shard_count=2)

    error = timeline.wait_failed()
    assert reason in error
    assert control_plane.import_complete(timeline) == [error]
    timeline.wait_forgotten()
    timeline.delete()
    timeline.assert_gone()


def _with_another_database(postgres: VanillaPostgres) -> int:
    """Returns its oid. A third one has been dropped, whose row may still be there."""
    postgres.safe_psql("create user cloud_admin with password 'postgres' superuser")
    for name in ("shop", "dropped"):
        postgres.safe_psql(f"create database {name}")
    postgres.safe_psql("drop database dropped")
    return int(postgres.safe_psql_scalar("select oid from pg_database where datname = 'shop'"))


def test_import_refuses_a_cluster_that_lacks_a_database(
    neon_env_builder: NeonEnvBuilder, pg_datasets: DatasetCache, pg_bin: PgBin, test_output_dir: Path
) -> None:
    """I8: what was left out when the bucket was filled is missed; what was dropped is not."""
    dataset = pg_datasets.get("shop, and one that was dropped", _with_another_database, pg_bin)
    source = SourceCluster(dataset.pgdata, pg_bin.distribution.version, 0)
    whole = LocalImportBucket.fill(source, test_output_dir / "whole")
    lacking = LocalImportBucket.fill(source, test_output_dir / "lacking")
    shutil.rmtree(lacking.directory / "pgdata" / "base" / str(dataset.result))
    env = neon_env_builder.init_start()
    env.pageserver.allowed_errors.append(".*task failed: .*")
    env.storage_controller.allowed_errors.append(".*Timeline import completed with shard errors.*")

    timeline = env.start_import(whole)
    timeline.wait_done()
    timeline.assert_equals(whole)
    error = env.start_import(lacking).wait_failed()

    assert re.search(
        rf"pgdata/base/{dataset.result}: is missing, though pgdata/global/\d+ says .* 'shop' is there", error
    )


def test_import_refuses_a_location_that_is_not_there(
    neon_env_builder: NeonEnvBuilder, local_import_bucket: LocalImportBucket, tmp_path: Path
) -> None:
    """I10: an import whose bucket is filled later waits for it, and can be deleted while it does."""
    env = neon_env_builder.init_start()
    timeline = env.start_import(LocalImportBucket(local_import_bucket.source, tmp_path / "nowhere"))

    def has_asked() -> None:
        """What it waits for is a file, which nobody sees; what it does before that is seen."""
        assert any("get status" in str(read.of) for read in requests(env.world.history()))

    wait_until(has_asked)
    timeline.delete()
    timeline.assert_gone()
