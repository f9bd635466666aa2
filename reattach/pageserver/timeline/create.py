"""Creating timelines, again and again with the same request if need be."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from reattach.api.ids import TimelineId
from reattach.api.location import ImportPgdata
from reattach.api.timeline import TimelineInfo
from reattach.pageserver.blocking import run_blocking
from reattach.pageserver.files import move_aside, remove_tree
from reattach.pageserver.layers import naive_datetime
from reattach.pageserver.layers.index_part import ImportDone, ImportInProgress, IndexPart
from reattach.pageserver.layers.timeline_metadata import TimelineMetadata
from reattach.pageserver.remote.tombstones import dig_up
from reattach.pageserver.tenant.shard import TenantShard
from reattach.pageserver.timeline.import_task import ImportTask
from reattach.pageserver.timeline.info import timeline_info
from reattach.pageserver.timeline.load import make_client
from reattach.pageserver.timeline.timeline import Timeline
from reattach.runtime.errors import InternalError, NotAcceptable, PlainConflict, TooManyRequests
from reattach.runtime.failpoints import failpoints

log = logging.getLogger(__name__)

_OTHER_PARAMETERS = "timeline already exists with different parameters"
_IN_PROGRESS = "creation of timeline with the given ID is in progress"
_NO_WAL = "this pageserver has no WAL path: it creates timelines from an import (`import_pgdata`) only"


class TimelineCreateRequest(msgspec.Struct, frozen=True):
    """Body of `POST /v1/tenant/:id/timeline`. Other ways than an import are recognised and refused."""

    new_timeline_id: TimelineId
    import_pgdata: ImportPgdata | None = None
    ancestor_timeline_id: TimelineId | None = None
    ancestor_start_lsn: Any = None
    existing_initdb_timeline_id: TimelineId | None = None
    pg_version: int | None = None
    read_only: bool = False


async def create_timeline(shard: TenantShard, request: TimelineCreateRequest) -> TimelineInfo:
    """Returns once the timeline is durable; its import goes on behind. Runs as a task of the shard's scope.

    Asking again with the same idempotency key gives the same answer, whatever the import has come to.
    """
    if request.ancestor_timeline_id is not None or request.import_pgdata is None:
        raise NotAcceptable(_NO_WAL)
    timeline_id, wanted = request.new_timeline_id, request.import_pgdata
    existing = _existing(shard, timeline_id, wanted.idempotency_key)
    if existing is not None:
        return timeline_info(existing)
    shard.creating.add(timeline_id)
    try:
        await _make_room(shard, timeline_id)
        return timeline_info(await _create(shard, timeline_id, wanted))
    finally:
        shard.creating.discard(timeline_id)


def _existing(shard: TenantShard, timeline_id: TimelineId, idempotency_key: str) -> Timeline | None:
    """The timeline that an equal request created before, its import under way again if it gave up.

    Raises the ApiError for one that differs.
    """
    if timeline_id in shard.creating:
        raise TooManyRequests(_IN_PROGRESS)
    if timeline_id in shard.deleting:
        raise PlainConflict("timeline is being deleted")
    task = shard.importing.get(timeline_id)
    if task is not None:
        if task.idempotency_key == idempotency_key:
            if task.ended_without_result and not task.timeline.is_stopping:
                log.info("the import of %s is asked for again, starting it anew", task.timeline)
                shard.start_import(task.again())
            return task.timeline
        if task.is_running:
            raise TooManyRequests(_IN_PROGRESS)
        raise PlainConflict(_OTHER_PARAMETERS)
    timeline = shard.timelines.get(timeline_id)
    if timeline is None:
        return None
    state = timeline.client.import_state
    if isinstance(state, ImportInProgress | ImportDone) and state.idempotency_key == idempotency_key:
        return timeline
    raise PlainConflict(_OTHER_PARAMETERS)


async def _make_room(shard: TenantShard, timeline_id: TimelineId) -> None:
    """Raises PlainConflict if a later attachment has deleted the timeline, or if what is left of it cannot be
    read."""
    buried = shard.buried.get(timeline_id, -1)
    if buried > shard.generation:
        raise PlainConflict(f"timeline was deleted in generation {buried:08x}")
    if timeline_id in shard.unreadable:
        raise PlainConflict(f"timeline exists, but cannot be read: {shard.unreadable[timeline_id]}")
    if buried == shard.generation:
        await dig_up(shard.context.storage, shard.id, timeline_id, buried)
        del shard.buried[timeline_id]


async def _create(shard: TenantShard, timeline_id: TimelineId, wanted: ImportPgdata) -> Timeline:
    await failpoints.pausable("timeline-creation-after-uninit")
    context = shard.context
    directory = context.timeline_directory(shard.id, timeline_id)
    try:
        await run_blocking(directory.mkdir, parents=True)
    except FileExistsError as e:
        raise InternalError("Timeline directory already exists! This is a bug.") from e
    if await failpoints.hit("after-timeline-dir-creation") is not None:
        aside = move_aside(directory)
        if aside is not None:
            await run_blocking(remove_tree, aside)
        raise InternalError("failpoint after-timeline-dir-creation")
    state = ImportInProgress(wanted.idempotency_key, wanted.location, naive_datetime.now())
    index = IndexPart(metadata=TimelineMetadata.before_import(), import_state=state)
    client = make_client(context, shard.id, timeline_id, shard.generation, index, shard.conf.mode)
    timeline = Timeline(
        tenant_shard_id=shard.id,
        timeline_id=timeline_id,
        shard=shard.conf.shard,
        generation=shard.generation,
        directory=directory,
        client=client,
        metrics=context.metrics,
    )
    client.schedule_index_upload()
    shard.start_import(ImportTask(context, timeline, wanted.location, wanted.idempotency_key))
    await client.wait_completion()
    log.info("created timeline %s, importing from %s", timeline, wanted.location)
    return timeline
