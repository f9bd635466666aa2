"""Reads from the bucket what the planner needs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from reattach.api.shard import ShardIdentity
from reattach.pageserver.import_pgdata import contents, relmap
from reattach.pageserver.import_pgdata.bucket import Bucket
from reattach.pageserver.import_pgdata.bucket_object import BucketObject
from reattach.pageserver.import_pgdata.control_file import CONTROL_FILE_PATH, ControlFile, parse_control_file
from reattach.pageserver.import_pgdata.databases import PG_DATABASE, certain_databases
from reattach.pageserver.import_pgdata.errors import ObjectError, ObjectMissing
from reattach.pageserver.import_pgdata.file_names import GLOBAL, Database
from reattach.pageserver.import_pgdata.pgdata import DatabaseFiles, PgData, read_listing
from reattach.pageserver.import_pgdata.plan import Plan
from reattach.pageserver.import_pgdata.planner import make_plan
from reattach.pageserver.import_pgdata.slru_extent import check_extent
from reattach.pageserver.import_pgdata.tasks import cpu_threads, in_thread, run_all

log = logging.getLogger(__name__)

_NEVER_EMPTY = {
    1213: "pg_tablespace",
    1247: "pg_type",
    1249: "pg_attribute",
    1255: "pg_proc",
    1259: "pg_class",
    1260: "pg_authid",
    1262: "pg_database",
}
"""Mapped catalogs by oid."""

_PG_DATABASE_BYTES = 8 << 20
"""A larger `pg_database` is not looked at: more than some twenty thousand databases."""


async def list_pgdata(bucket: Bucket) -> list[BucketObject]:
    """Every object that an import could depend on."""
    directories = [f"{contents.ROOT}{name}" for name in contents.READ_DIRECTORIES + contents.SEEN_DIRECTORIES]
    listings = [bucket.list_tree(directory) for directory in directories]
    listings.append(bucket.list_directory(contents.ROOT.rstrip("/")))
    return [each for listing in await run_all(listings) for each in listing]


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
    if len(pgdata.databases) == 1:
        raise ObjectError(f"{contents.ROOT}base", "there is no database in it")
    for warning in pgdata.warnings:
        log.warning("%s", warning)
    check_extent(pgdata.slru, control_file)
    relmaps = await _read_relmaps(bucket, pgdata, control_file.pg_version)
    await _check_databases(bucket, pgdata, relmaps)
    return await in_thread(cpu_threads(), make_plan, pgdata, control_file, relmaps, shard, soft_size_limit)


async def _read_relmaps(bucket: Bucket, pgdata: PgData, pg_version: int) -> dict[str, bytes]:
    sources = [files.relmap for files in pgdata.databases.values()]
    expected = relmap.SIZES[pg_version]
    for source in sources:
        if source.size != expected:
            raise ObjectError(
                source.path, f"has {source.size} bytes, PostgreSQL {pg_version} writes {expected}"
            )
    raws = await run_all([bucket.read_listed(source) for source in sources])
    for (database, files), raw in zip(pgdata.databases.items(), raws, strict=True):
        _check_mapped(database, files, relmap.read_relmap(files.relmap.path, raw))
    return {source.path: raw for source, raw in zip(sources, raws, strict=True)}


async def _check_databases(bucket: Bucket, pgdata: PgData, relmaps: Mapping[str, bytes]) -> None:
    """Raises ObjectError for a database that `pg_database` has and the bucket has not."""
    shared = pgdata.databases[GLOBAL]
    relnode = relmap.read_relmap(shared.relmap.path, relmaps[shared.relmap.path]).get(PG_DATABASE)
    segment = None if relnode is None else shared.main_fork(relnode)
    if segment is None or segment.source.size > _PG_DATABASE_BYTES:
        return
    source = segment.source
    # Whole, as all that a plan needs: ranges are what jobs read.
    named = list(certain_databases(await bucket.read_listed(source)))
    there = {database.dbnode for database in pgdata.databases}
    for oid, name in named:
        if oid not in there:
            reason = f"is missing, though {source.path} says that database {name!r} is there"
            raise ObjectError(f"{contents.ROOT}base/{oid}", reason)


def _check_mapped(database: Database, files: DatabaseFiles, mapped: Mapping[int, int]) -> None:
    """Raises ObjectError for a relation without which the database could not be opened."""
    for oid, relnode in sorted(mapped.items()):
        path, segment = f"{database.directory}{relnode}", files.main_fork(relnode)
        if segment is None:
            reason = f"is missing, though {files.relmap.path} says that relation {oid} is there"
            raise ObjectError(path, reason)
        if oid in _NEVER_EMPTY and not segment.blocks:
            raise ObjectError(path, f"is empty, and has been the catalog {_NEVER_EMPTY[oid]}")
