"""Removing a tenant shard: for good, or because it does not belong here any more."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.remote_path import tenant_prefix
from reattach.pageserver.blocking import run_blocking
from reattach.pageserver.context import Context
from reattach.pageserver.files import move_aside, remove_tree
from reattach.pageserver.remote.late_writes import remove_late_writes
from reattach.pageserver.remote.storage import ObjectInfo, RemoteStorage, retry_forever
from reattach.pageserver.tenant.location import LocationConf

log = logging.getLogger(__name__)


async def delete_remote(storage: RemoteStorage, shard_id: TenantShardId) -> None:
    """Removes everything that the tenant shard has in remote storage. It must not be attached anywhere.

    An unsharded id stands for the whole tenant, with shards of every number and count. So does the controller
    delete a tenant: it may be attached nowhere, and nobody else knows which shards it ever had.
    """
    prefix = tenant_prefix(shard_id)

    async def listing() -> list[ObjectInfo]:
        if shard_id.shard_count:
            return await storage.list_objects(prefix)
        return await storage.list_beginning(prefix)

    found = await retry_forever("listing of a deleted tenant", listing)
    paths = [each.path for each in found]
    if paths:
        await retry_forever("deletion of a tenant's objects", lambda: storage.delete(paths))
    log.info("tenant shard %s is deleted, %d objects", shard_id, len(paths))


async def remove_foreign(context: Context, shard_id: TenantShardId, conf: LocationConf | None) -> None:
    """Removes a tenant shard from the disk that was moved away while this process was not running.

    conf: how it stood, if that can be read. Its last attachment may have gone on after that. Raises OSError.
    """
    directory = context.tenant_directory(shard_id)
    names = await run_blocking(_names, directory / "timelines")
    aside = await run_blocking(move_aside, directory)
    if aside is not None:
        await run_blocking(remove_tree, aside)
    if conf is not None and conf.generation is not None:
        await remove_late_writes(context.storage, shard_id, conf.generation, timelines=names, importing=())


def _names(directory: Path) -> list[TimelineId]:
    found = []
    for path in directory.iterdir() if directory.is_dir() else ():
        with suppress(ValueError):
            found.append(TimelineId(path.name))
    return found
