"""An import whose index is gone or cannot be read: it can neither go on nor end, unless somebody says so."""

from __future__ import annotations

import logging

from reattach.api.ids import TimelineId
from reattach.api.import_status import Error, InProgress
from reattach.pageserver.import_pgdata.errors import ImportFailed, ImportInterrupted
from reattach.pageserver.tenant.shard import TenantShard
from reattach.pageserver.upcalls import ImportStatusClient

log = logging.getLogger(__name__)


async def report_lost(
    shard: TenantShard, timeline_id: TimelineId, reason: str, *, only_if_begun: bool = False
) -> None:
    """Ends the timeline's import with the reason, if the storage controller knows of one that has not ended.

    only_if_begun: only if a checkpoint is recorded, since its creation may yet be under way.
    """
    status = ImportStatusClient(
        shard.context.controller, shard.id, timeline_id, shard.generation, is_recorded=True
    )
    try:
        recorded = await status.get_status()
        if isinstance(recorded, InProgress) and (recorded.progress is not None or not only_if_begun):
            log.error("import of timeline %s ends, its index is lost: %s", timeline_id, reason)
            await status.put_status(Error(f"the index of the timeline cannot be read: {reason}"))
    except (ImportFailed, ImportInterrupted) as e:
        log.info("timeline %s is no import that can be ended: %s", timeline_id, e)
