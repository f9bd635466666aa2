"""Making an imported timeline visible."""

from __future__ import annotations

import logging

from reattach.api.ids import TimelineId
from reattach.api.timeline import TimelineInfo
from reattach.pageserver.layers.index_part import ImportInProgress
from reattach.pageserver.scope import ScopeClosed
from reattach.pageserver.tenant.shard import TenantShard
from reattach.pageserver.timeline.info import timeline_info
from reattach.pageserver.timeline.timeline import TimelineState
from reattach.runtime.errors import InternalError, PreconditionFailed, ResourceUnavailable

log = logging.getLogger(__name__)


async def activate_post_import(shard: TenantShard, timeline_id: TimelineId) -> TimelineInfo:
    """Records in the index that the import is done and shows the timeline. Idempotent.

    Runs as a task of the shard's scope. Raises ResourceUnavailable while the import runs, PreconditionFailed
    if it failed, NotFound if there is no such timeline.
    """
    task = shard.importing.get(timeline_id)
    if task is not None:
        if timeline_id in shard.deleting:
            raise PreconditionFailed("timeline is being deleted")
        if task.is_running:
            raise ResourceUnavailable("Import task still running")
        if task.failure is not None:
            raise PreconditionFailed(f"Import failed: {task.failure}")
        if not task.has_succeeded:
            raise InternalError(
                "Import task ended without a result; the next attach, or the same creation, starts it again"
            )
        client = task.timeline.client
        if isinstance(client.import_state, ImportInProgress):
            client.set_import_state(client.import_state.finish())
            client.schedule_index_upload()
        await client.wait_completion()
        await client.delete_unnamed()
        await client.wait_completion()
        if task.timeline.is_stopping:
            raise ScopeClosed
        if shard.importing.pop(timeline_id, None) is not None:
            # Nothing else of the tenant shard changes, so that its other imports go on undisturbed.
            client.trust_index()
            task.timeline.state = TimelineState.ACTIVE
            shard.timelines[timeline_id] = task.timeline
            log.info("imported timeline %s is active", task.timeline)
    timeline = shard.timeline(timeline_id)
    if timeline.state is not TimelineState.ACTIVE:
        raise InternalError(f"Timeline activation failed, state: {timeline.state}")
    return timeline_info(timeline)
