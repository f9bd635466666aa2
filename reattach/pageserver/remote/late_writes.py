"""Cleaning up after an attachment that went on, for a while, when another had taken its place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.remote_path import timeline_prefix
from reattach.pageserver.layers.index_part import IndexPart, IndexPartError
from reattach.pageserver.remote.index_choice import generation_of
from reattach.pageserver.remote.storage import ObjectNotFound, RemoteStorage, retry_forever
from reattach.pageserver.remote.timeline_objects import INDEX_NAME, unnamed
from reattach.pageserver.remote.tombstones import load_tombstones, remove_dead

log = logging.getLogger(__name__)

SECONDS = 5.0
"""How long a detach waits for this. What it does not get to, the next attachment removes."""


async def remove_late_writes(
    storage: RemoteStorage,
    shard: TenantShardId,
    generation: int,
    timelines: Collection[TimelineId],
    importing: Collection[TimelineId],
) -> None:
    """Removes what an attachment that has ended wrote in vain.

    timelines: all that it had. importing: those of them whose import it did not finish.
    """
    if not timelines:
        return
    try:
        async with asyncio.timeout(SECONDS):
            buried = await load_tombstones(storage, shard)
            for timeline in timelines:
                if buried.get(timeline, -1) >= generation:
                    await remove_dead(storage, shard, timeline, generation)
                elif timeline in importing:
                    await _remove_outdone(storage, shard, timeline, generation)
    except TimeoutError:
        log.info("%s: objects that came late may stay until the next attachment", shard)


async def _remove_outdone(
    storage: RemoteStorage, shard: TenantShardId, timeline: TimelineId, generation: int
) -> None:
    """Removes the attachment's objects that an import which a later one finished does without.

    The later index says Done only if its generation was current when the import ended. So every attachment
    after it has started from it, and takes up nothing older that it does not reference.
    """
    prefix = timeline_prefix(shard, timeline)
    listed = await retry_forever("listing of a timeline", lambda: storage.list_objects(prefix))
    indices = {generation_of(each.name) or 0: each for each in listed if each.name.startswith(INDEX_NAME)}
    newest = max(indices, default=0)
    if newest <= generation:
        return
    path = indices[newest].path
    try:
        index = IndexPart.from_json_bytes(
            await retry_forever(f"download of {path}", lambda: storage.get(path))
        )
    except (IndexPartError, ObjectNotFound) as e:
        log.info("%s is of no help in finding what came late: %s", path, e)
        return
    if not index.is_import_done:
        return
    ours = [each for each in listed if generation_of(each.name) == generation]
    late = [each.path for each in unnamed(ours, index.layers, keep=())]
    if late:
        await retry_forever("removal of late objects", lambda: storage.delete(late))
        log.info("removed %d objects of %s/%s that came late", len(late), shard, timeline)
