"""The size of a timeline as its users see it: the sum of its relations."""

from __future__ import annotations

import asyncio
import logging
import struct

from reattach.api.key import BLCKSZ, DBDIR_KEY, RelTag, reldir_key
from reattach.pageserver.layers.errors import LayerCorrupted
from reattach.pageserver.remote.storage import ObjectNotFound
from reattach.pageserver.timeline.timeline import MissingKey, Timeline, TimelineState

log = logging.getLogger(__name__)

_DATABASE = struct.Struct(">II?")
_RELATION = struct.Struct(">IB")
_SHARED = 0


def ensure_logical_size(timeline: Timeline) -> asyncio.Task[None] | None:
    """Starts to compute the size if nobody did; None if it is known or cannot be asked for."""
    if timeline.logical_size is not None or timeline.state is not TimelineState.ACTIVE:
        return None
    if timeline.shard.number != 0:
        return None
    if timeline.logical_size_task is None or timeline.logical_size_task.done():
        timeline.logical_size_task = timeline.scope.spawn(_compute(timeline))
    return timeline.logical_size_task


async def _compute(timeline: Timeline) -> None:
    try:
        timeline.logical_size = await logical_size(timeline)
    except (LayerCorrupted, MissingKey, ObjectNotFound, OSError) as e:
        log.info("logical size of %s cannot be computed: %s", timeline, e)


async def logical_size(timeline: Timeline) -> int:
    """Bytes of all relations of all databases, without the shared ones. Raises like `Timeline.get`."""
    lsn = timeline.last_record_lsn
    databases = (await timeline.get(DBDIR_KEY, lsn)).value
    blocks = 0
    for spcnode, dbnode, _ in _DATABASE.iter_unpack(databases[8:]):
        if dbnode == _SHARED:
            continue
        relations = (await timeline.get(reldir_key(spcnode, dbnode), lsn)).value
        for relnode, forknum in _RELATION.iter_unpack(relations[8:]):
            size = (await timeline.get(RelTag(spcnode, dbnode, relnode, forknum).size_key(), lsn)).value
            blocks += int.from_bytes(size[:4], "little")
    return blocks * BLCKSZ
