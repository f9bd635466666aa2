"""Which timelines of a tenant shard were deleted, and up to which generation.

A pageserver that stood still while its shard moved and a timeline was deleted may carry out, once it goes on,
the uploads that it was about to make. They carry its generation. So a deletion leaves a tombstone with the
generation that it was done in: what has the timeline's name and a generation up to that one is dead, whenever
it came.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.remote_path import timeline_prefix, tombstone_path, tombstones_prefix
from reattach.pageserver.remote.index_choice import generation_of
from reattach.pageserver.remote.storage import RemoteStorage, retry_forever
from reattach.pageserver.remote.timeline_objects import written_until

log = logging.getLogger(__name__)

Tombstones = Mapping[TimelineId, int]
"""The generation up to which a timeline is dead."""


async def load_tombstones(storage: RemoteStorage, shard: TenantShardId) -> dict[TimelineId, int]:
    prefix = tombstones_prefix(shard)
    found: dict[TimelineId, int] = {}
    for each in await retry_forever("listing of tombstones", lambda: storage.list_children(prefix)):
        generation = generation_of(each.name)
        try:
            timeline = TimelineId(each.name.partition("-")[0])
        except ValueError:
            generation = None
        if generation is None:
            log.info("%s is no tombstone", each.path)
            continue
        found[timeline] = max(generation, found.get(timeline, generation))
    return found


async def bury(storage: RemoteStorage, shard: TenantShardId, timeline: TimelineId, generation: int) -> None:
    """Returns when nobody can attach the timeline any more from what has a generation up to this one."""
    path = tombstone_path(shard, timeline, generation)
    await retry_forever("upload of a tombstone", lambda: storage.put(path, b""))


async def dig_up(storage: RemoteStorage, shard: TenantShardId, timeline: TimelineId, generation: int) -> None:
    """Makes room for a timeline of the same name that is created in the generation of the deletion.

    What older generations left of its predecessor stays dead.
    """
    if generation > 0:
        await bury(storage, shard, timeline, generation - 1)
    path = tombstone_path(shard, timeline, generation)
    await retry_forever("removal of a tombstone", lambda: storage.delete([path]))


async def remove_dead(
    storage: RemoteStorage, shard: TenantShardId, timeline: TimelineId, generation: int
) -> None:
    """Removes what attachments up to `generation` wrote of a timeline that is buried that deep."""
    prefix = timeline_prefix(shard, timeline)
    listed = await retry_forever("listing of a dead timeline", lambda: storage.list_objects(prefix))
    paths = [each.path for each in written_until(listed, generation)]
    if paths:
        await retry_forever("removal of a dead timeline's objects", lambda: storage.delete(paths))
        log.info("removed %d objects of the deleted timeline %s/%s", len(paths), shard, timeline)
