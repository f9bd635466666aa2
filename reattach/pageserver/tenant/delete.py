"""Deleting a tenant shard for good."""

from __future__ import annotations

import logging

from reattach.api.ids import TenantShardId
from reattach.api.remote_path import tenant_prefix
from reattach.pageserver.remote.storage import ObjectInfo, RemoteStorage, retry_forever

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
