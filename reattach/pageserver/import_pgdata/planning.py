"""Reads from the bucket what the planner needs."""

from __future__ import annotations

import logging

from reattach.api.shard import ShardIdentity
from reattach.pageserver.import_pgdata.bucket import Bucket
from reattach.pageserver.import_pgdata.bucket_object import BucketObject
from reattach.pageserver.import_pgdata.control_file import CONTROL_FILE_PATH, ControlFile, parse_control_file
from reattach.pageserver.import_pgdata.errors import ObjectChanged, ObjectError
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


async def read_control_file(bucket: Bucket) -> tuple[ControlFile, BucketObject]:
    """Raises ObjectError if there is none, or none that could be imported."""
    log.info("get control file from %s", CONTROL_FILE_PATH)
    raw, found = await bucket.read_object(CONTROL_FILE_PATH)
    return parse_control_file(raw), found


async def read_plan(
    bucket: Bucket,
    control_file: ControlFile,
    control_object: BucketObject,
    shard: ShardIdentity,
    soft_size_limit: int,
) -> Plan:
    """Lists the bucket and plans. Raises ObjectError for a data directory that cannot be imported."""
    prefixes = (*LISTED_PREFIXES, TABLESPACES_PREFIX)
    listings = await run_all([bucket.list_tree(prefix) for prefix in prefixes])
    # Thousands of relations take long enough for the event loop to notice.
    pgdata = await in_thread(cpu_threads(), read_listing, [each for listing in listings for each in listing])
    if pgdata.control_file != control_object:
        raise ObjectChanged(CONTROL_FILE_PATH, "changed while the import was planned")
    relmaps = await _read_relmaps(bucket, pgdata, control_file.pg_version)
    return await in_thread(cpu_threads(), make_plan, pgdata, control_file, relmaps, shard, soft_size_limit)


async def _read_relmaps(bucket: Bucket, pgdata: PgData, pg_version: int) -> dict[str, bytes]:
    relmaps = [files.relmap for files in pgdata.databases.values()]
    contents = await run_all([bucket.read_object(each.path, each.version) for each in relmaps])
    expected = _RELMAP_SIZES[pg_version]
    for relmap, (content, _) in zip(relmaps, contents, strict=True):
        if len(content) != expected:
            raise ObjectError(
                relmap.path,
                f"has {len(content)} bytes, PostgreSQL {pg_version} writes {expected}",
            )
    return {relmap.path: content for relmap, (content, _) in zip(relmaps, contents, strict=True)}
