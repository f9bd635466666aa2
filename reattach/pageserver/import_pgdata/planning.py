"""Reads from the bucket what the planner needs."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from reattach.api.shard import ShardIdentity
from reattach.pageserver.import_pgdata.bucket import Bucket
from reattach.pageserver.import_pgdata.bucket_object import BucketObject
from reattach.pageserver.import_pgdata.control_file import CONTROL_FILE_PATH, ControlFile, parse_control_file
from reattach.pageserver.import_pgdata.errors import ObjectError, ObjectMissing
from reattach.pageserver.import_pgdata.pgdata import (
    LISTED_PREFIXES,
    TABLESPACES_PREFIX,
    PgData,
    read_listing,
)
from reattach.pageserver.import_pgdata.plan import Plan
from reattach.pageserver.import_pgdata.planner import make_plan
from reattach.pageserver.import_pgdata.tasks import cpu_threads, in_thread, run_all

log = logging.getLogger(__name__)

_RELMAP_SIZES = {14: 512, 15: 512, 16: 524, 17: 524}


async def list_pgdata(bucket: Bucket) -> list[BucketObject]:
    """Every object that an import could depend on."""
    prefixes = (*LISTED_PREFIXES, TABLESPACES_PREFIX)
    listings = await run_all([bucket.list_tree(prefix) for prefix in prefixes])
    return [each for listing in listings for each in listing]


async def read_control_file(bucket: Bucket, listed: Sequence[BucketObject]) -> ControlFile:
    """Raises ObjectError if there is none, or none that could be imported."""
    log.info("get control file from %s", CONTROL_FILE_PATH)
    source = next((each for each in listed if each.path == CONTROL_FILE_PATH), None)
    if source is None:
        raise ObjectMissing(CONTROL_FILE_PATH)
    return parse_control_file(await bucket.read_listed(source))


async def read_plan(
    bucket: Bucket,
    listed: Sequence[BucketObject],
    control_file: ControlFile,
    shard: ShardIdentity,
    soft_size_limit: int,
) -> Plan:
    """Plans the import of what was listed. Raises ObjectError for what cannot be imported."""
    # Thousands of relations take long enough for the event loop to notice.
    pgdata = await in_thread(cpu_threads(), read_listing, listed)
    relmaps = await _read_relmaps(bucket, pgdata, control_file.pg_version)
    return await in_thread(cpu_threads(), make_plan, pgdata, control_file, relmaps, shard, soft_size_limit)


async def _read_relmaps(bucket: Bucket, pgdata: PgData, pg_version: int) -> dict[str, bytes]:
    sources = [files.relmap for files in pgdata.databases.values()]
    expected = _RELMAP_SIZES[pg_version]
    for source in sources:
        if source.size != expected:
            raise ObjectError(
                source.path, f"has {source.size} bytes, PostgreSQL {pg_version} writes {expected}"
            )
    contents = await run_all([bucket.read_listed(source) for source in sources])
    return {source.path: content for source, content in zip(sources, contents, strict=True)}
