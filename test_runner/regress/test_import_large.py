"""Relations that are larger than a segment."""

from __future__ import annotations

import shutil

import pytest

from reattach.api.key import BLCKSZ, RELSEG_BLOCKS
from reattach.fixtures.control_plane import ControlPlane
from reattach.fixtures.imports.bucket import LocalImportBucket, SourceCluster
from reattach.fixtures.imports.handle import after_job
from reattach.fixtures.neon_fixtures import NeonEnvBuilder, PageserverImportConfig

SEGMENT = RELSEG_BLOCKS * BLCKSZ
LAST_SEGMENT = 100 * 1024 * 1024
MARKED_EVERY = 64 * 1024 * 1024


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_import_relation_of_three_segments(
    neon_env_builder: NeonEnvBuilder,
    import_source: SourceCluster,
    local_import_bucket: LocalImportBucket,
    control_plane: ControlPlane,
) -> None:
    """I5, I8: 2.1 GiB in three segments, interrupted in the second, come out equal on each of two shards."""
    # The bucket is its own source, so that the sparse files are not copied.
    source = SourceCluster(
        local_import_bucket.directory / "pgdata", import_source.pg_version, import_source.rows
    )
    bucket = LocalImportBucket(source, local_import_bucket.directory)
    database = bucket.largest_relation_file().rpartition("/")[0]
    sizes = {"77777": SEGMENT, "77777.1": SEGMENT, "77777.2": LAST_SEGMENT}
    for name, size in sizes.items():
        with (bucket.directory / database / name).open("wb") as file:
            file.truncate(size)
            # Pages that tell where they belong, far apart.
            for offset in range(0, size, MARKED_EVERY):
                file.seek(offset)
                file.write(f"{name} at {offset}".encode())
    neon_env_builder.pageserver_import_config = PageserverImportConfig(2, SEGMENT // 4, 1)
    env = neon_env_builder.init_start()
    timeline = env.start_import(bucket, shard_count=2, stripe_size=2048, hold=after_job(2))

    timeline.wait_at(after_job(2), timeout=120)
    stopped_at = timeline.progress()
    timeline.restart_killed()

    timeline.wait_done(timeout=300).assert_resumed_from(stopped_at)
    assert control_plane.import_complete(timeline) == [None]
    timeline.assert_equals(bucket)
    shutil.rmtree(local_import_bucket.directory)
