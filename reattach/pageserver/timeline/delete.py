"""Deleting a timeline for good: index first, so that a crash cannot bring it back."""

from __future__ import annotations

import logging

from reattach.api.ids import TimelineId
from reattach.api.remote_path import timeline_prefix
from reattach.pageserver.blocking import run_blocking
from reattach.pageserver.files import move_aside, remove_tree
from reattach.pageserver.layers.index_part import IndexPart
from reattach.pageserver.remote.index_choice import newest_allowed
from reattach.pageserver.remote.storage import RemoteError, retry_forever
from reattach.pageserver.remote.timeline_objects import INDEX_NAME, written_until
from reattach.pageserver.remote.tombstones import bury, remove_dead
from reattach.pageserver.scope import log_failure
from reattach.pageserver.tenant.shard import TenantShard
from reattach.pageserver.timeline.load import make_client
from reattach.pageserver.timeline.timeline import Timeline, TimelineState
from reattach.runtime.errors import Conflict, InternalError, NotFound, PreconditionFailed
from reattach.runtime.failpoints import failpoints

log = logging.getLogger(__name__)


class DeletionInterrupted(Exception):
    """A failpoint stopped the background part of a deletion."""


async def delete_timeline(shard: TenantShard, timeline_id: TimelineId) -> None:
    """Returns once the deletion is certain to happen, whatever happens to this process; it goes on behind.

    Runs as a task of the shard's scope. Raises NotFound also when the deletion is complete, Conflict while it
    runs.
    """
    if timeline_id in shard.deleting:
        raise Conflict("Timeline deletion is already in progress")
    if timeline_id in shard.creating:
        raise Conflict("Timeline is being created")
    task = shard.importing.get(timeline_id)
    timeline = shard.timelines.get(timeline_id) if task is None else task.timeline
    if timeline is None:
        await _bury_unknown(shard, timeline_id)
        raise NotFound("timeline not found")
    if any(each.metadata.ancestor_timeline == timeline_id for each in shard.timelines.values()):
        raise PreconditionFailed("Cannot delete timeline which has child timelines")
    shard.deleting.add(timeline_id)
    try:
        if task is not None:
            timeline.state = TimelineState.STOPPING
            await task.cancel()
        await timeline.shutdown(0)
        await _fail_if_asked("timeline-delete-before-index-deleted-at")
        await failpoints.pausable("persist_deleted_index_part")
        try:
            await timeline.client.persist_deleted_at()
        except RemoteError as e:
            raise InternalError(f"could not mark the timeline as deleted: {e}") from e
        await _fail_if_asked("timeline-delete-before-schedule")
        shard.scope.spawn(log_failure("timeline deletion", finish_deletion(shard, timeline_id)))
    except BaseException:
        shard.deleting.discard(timeline_id)
        raise


def load_deleted(shard: TenantShard, timeline_id: TimelineId, index: IndexPart) -> Timeline:
    """A timeline whose deletion was interrupted. It is visible, but nothing can be done with it."""
    client = make_client(shard.context, shard.id, timeline_id, shard.generation, index, shard.conf.mode)
    timeline = Timeline(
        tenant_shard_id=shard.id,
        timeline_id=timeline_id,
        shard=shard.conf.shard,
        generation=shard.generation,
        directory=shard.context.timeline_directory(shard.id, timeline_id),
        client=client,
        metrics=shard.context.metrics,
    )
    timeline.state = TimelineState.STOPPING
    return timeline


async def finish_deletion(shard: TenantShard, timeline_id: TimelineId) -> None:
    """The part that may take long. Interrupted, it is taken up by the next DELETE or the next attach."""
    try:
        await _interrupt_if_asked("timeline-delete-before-rm")
        await run_blocking(_remove_local, shard, timeline_id)
        await _interrupt_if_asked("timeline-delete-after-rm")
        await _remove_remote(shard, timeline_id)
        await failpoints.pausable("in_progress_delete")
        shard.importing.pop(timeline_id, None)
        shard.timelines.pop(timeline_id, None)
        labels = (str(shard.id.tenant_id), str(shard.id.shard_index), str(timeline_id))
        shard.context.metrics.forget_timeline(*labels)
        log.info("timeline %s/%s is deleted", shard.id, timeline_id)
    finally:
        shard.deleting.discard(timeline_id)


def _remove_local(shard: TenantShard, timeline_id: TimelineId) -> None:
    aside = move_aside(shard.context.timeline_directory(shard.id, timeline_id))
    if aside is not None:
        remove_tree(aside)


async def _remove_remote(shard: TenantShard, timeline_id: TimelineId) -> None:
    """Everything below the timeline's prefix up to our generation, the index that says so last."""
    storage = shard.context.storage
    prefix = timeline_prefix(shard.id, timeline_id)
    found = await retry_forever("listing of a deleted timeline", lambda: storage.list_objects(prefix))
    indices = [each.path for each in found if each.name.startswith(INDEX_NAME)]
    last = newest_allowed(indices, shard.generation)
    doomed = [each.path for each in written_until(found, shard.generation) if each.path != last]
    if doomed:
        await retry_forever("deletion of a timeline's objects", lambda: storage.delete(doomed))
    await _bury(shard, timeline_id)
    await _interrupt_if_asked("timeline-delete-before-index-delete")
    if last is not None:
        await retry_forever("deletion of a timeline's index", lambda: storage.delete([last]))
    await _interrupt_if_asked("timeline-delete-after-index-delete")


async def _bury_unknown(shard: TenantShard, timeline_id: TimelineId) -> None:
    """Makes sure that a timeline which is not here does not come either, and that nothing of it is left.

    Its index may be unreadable, or an attachment that was given up may yet write one.
    """
    if shard.buried.get(timeline_id, -1) >= shard.generation:
        return
    shard.deleting.add(timeline_id)
    try:
        await _bury(shard, timeline_id)
        await remove_dead(shard.context.storage, shard.id, timeline_id, shard.generation)
        await run_blocking(_remove_local, shard, timeline_id)
        shard.unreadable.pop(timeline_id, None)
    finally:
        shard.deleting.discard(timeline_id)


async def _bury(shard: TenantShard, timeline_id: TimelineId) -> None:
    await bury(shard.context.storage, shard.id, timeline_id, shard.generation)
    shard.buried[timeline_id] = shard.generation


async def _fail_if_asked(name: str) -> None:
    if await failpoints.hit(name) is not None:
        raise InternalError(f"failpoint: {name}")


async def _interrupt_if_asked(name: str) -> None:
    if await failpoints.hit(name) is not None:
        raise DeletionInterrupted(f"failpoint: {name}")
