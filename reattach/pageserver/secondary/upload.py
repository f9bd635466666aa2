"""Writing heatmaps, on demand and from time to time."""

from __future__ import annotations

import asyncio
import logging
import time

from reattach.api.ids import TenantShardId
from reattach.api.remote_path import heatmap_path
from reattach.pageserver.remote.storage import RemoteError
from reattach.pageserver.scope import ScopeClosed
from reattach.pageserver.secondary.heatmap import heatmap_of, heatmap_period
from reattach.pageserver.tenant.manager import TenantManager
from reattach.pageserver.tenant.shard import TenantShard
from reattach.pageserver.tenant.state import Phase
from reattach.runtime.logs import span

log = logging.getLogger(__name__)

_LOOK_AROUND_SECONDS = 1.0
_UPLOAD_SECONDS = 10.0


async def upload_heatmap(tenants: TenantManager, shard_id: TenantShardId, seconds: float | None) -> None:
    """Uploads the heatmap of a shard, if it is attached and active.

    seconds: with it, failing or taking longer is only logged. Without, raises RemoteError, ScopeClosed.
    """
    shard = next((each for each in tenants.attached() if each.id == shard_id), None)
    if shard is None or shard.state.phase is not Phase.ACTIVE:
        return
    if seconds is None:
        await _upload(shard)
        return
    try:
        async with asyncio.timeout(max(seconds, 0.1)):
            await _upload(shard)
    except (RemoteError, ScopeClosed, TimeoutError) as e:
        log.info("heatmap of %s was not uploaded: %s", shard_id, e)


async def _upload(shard: TenantShard) -> None:
    """As a task of the shard's scope, so that none comes after its end. Raises RemoteError, ScopeClosed."""
    heatmap = heatmap_of(shard)
    raw = heatmap.to_json_bytes()
    await shard.scope.run(shard.context.storage.put(heatmap_path(shard.id), raw))
    log.info("uploaded heatmap of %s, %d timelines", shard.id, len(heatmap.timelines))


async def upload_heatmaps(tenants: TenantManager) -> None:
    """Uploads the heatmap of every attached shard as often as its configuration wants. Until cancelled."""
    uploaded_at: dict[TenantShardId, float] = {}
    with span("heatmap_upload"):
        while True:
            await asyncio.sleep(_LOOK_AROUND_SECONDS)
            now = time.monotonic()
            shards = list(tenants.attached())
            uploaded_at = {each.id: uploaded_at.get(each.id, now) for each in shards}
            for shard in shards:
                period = heatmap_period(shard.conf.tenant_conf)
                if period is not None and now - uploaded_at[shard.id] >= period:
                    uploaded_at[shard.id] = now
                    await upload_heatmap(tenants, shard.id, _UPLOAD_SECONDS)
