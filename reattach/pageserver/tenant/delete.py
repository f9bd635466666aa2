"""Deleting a tenant shard for good."""

from __future__ import annotations

import logging

from reattach.api.ids import TenantShardId
from reattach.api.remote_path import tenant_prefix
from reattach.pageserver.remote.storage import RemoteStorage, retry_forever

log = logging.getLogger(__name__)


async def delete_remote(storage: RemoteStorage, shard_id: TenantShardId) -> None:
    """Removes everything that the tenant shard has in remote storage. It must not be attached anywhere."""
    prefix = tenant_prefix(shard_id)
    found = await retry_forever("listing of a deleted tenant", lambda: storage.list_objects(prefix))
    paths = [each.path for each in found]
    if paths:
        await retry_forever("deletion of a tenant's objects", lambda: storage.delete(paths))
    log.info("tenant shard %s is deleted, %d objects", shard_id, len(paths))
