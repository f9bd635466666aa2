"""Bringing a tenant shard to life: from remote storage and what the disk still has of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from reattach.api import codec
from reattach.api.ids import TimelineId
from reattach.api.remote_path import tenant_prefix
from reattach.pageserver.blocking import run_blocking
from reattach.pageserver.files import move_aside, remove_tree
from reattach.pageserver.layers.index_part import ImportInProgress, IndexPart, IndexPartError
from reattach.pageserver.layers.timeline_metadata import TimelineMetadata
from reattach.pageserver.remote.storage import ObjectNotFound, RemoteError, retry_forever
from reattach.pageserver.scope import log_failure
from reattach.pageserver.tenant.manifest import load_manifest, upload_manifest_if_changed
from reattach.pageserver.tenant.shard import TenantShard
from reattach.pageserver.tenant.state import Phase
from reattach.pageserver.timeline.delete import finish_deletion, load_deleted
from reattach.pageserver.timeline.import_task import ImportTask
from reattach.pageserver.timeline.load import UnusableIndex, load_index, load_timeline
from reattach.pageserver.timeline.local_files import UnknownFiles
from reattach.pageserver.timeline.timeline import TimelineState
from reattach.runtime.failpoints import FailpointPanic, failpoints
from reattach.runtime.logs import span

log = logging.getLogger(__name__)

_INDICES_AT_A_TIME = 16


@dataclass(slots=True)
class _Preload:
    """`unreadable`: timelines that are left alone, here and in remote storage."""

    indices: dict[TimelineId, IndexPart] = field(default_factory=dict)
    unreadable: set[TimelineId] = field(default_factory=set)


async def attach(shard: TenantShard, turn: asyncio.Semaphore | None) -> None:
    """Runs from Attaching to Active, or to Broken with the reason. Raises nothing but CancelledError.

    turn: held while loading; None for an attachment that need not queue. One that a client waits for does
    not queue either.
    """
    with span("attach", tenant_id=shard.id.tenant_id, shard_id=shard.id.shard_index, gen=shard.generation):
        try:
            await failpoints.sleep_for_returned_ms("before-attaching-tenant")
            if turn is None or shard.activate_now.is_set():
                await _attach(shard)
            else:
                async with _turn_unless(turn, shard.activate_now):
                    await _attach(shard)
        except (
            codec.DecodeError,
            FailpointPanic,
            OSError,
            ObjectNotFound,
            RemoteError,
            UnknownFiles,
            UnusableIndex,
        ) as e:
            log.exception("attach failed, setting tenant state to Broken")
            shard.state.advance(Phase.BROKEN, str(e))
        except Exception as e:
            log.exception("attach failed unexpectedly, setting tenant state to Broken")
            shard.context.metrics.tenant_manager_unexpected_errors.inc()
            shard.state.advance(Phase.BROKEN, f"unexpected {type(e).__name__}: {e}")


@asynccontextmanager
async def _turn_unless(turn: asyncio.Semaphore, no_need: asyncio.Event) -> AsyncIterator[None]:
    """Waits for a place in the queue, or until there is no need to queue."""
    acquiring = asyncio.ensure_future(turn.acquire())
    hurry = asyncio.ensure_future(no_need.wait())
    try:
        await asyncio.wait({acquiring, hurry}, return_when=asyncio.FIRST_COMPLETED)
        yield
    finally:
        hurry.cancel()
        if not acquiring.cancel():
            turn.release()


async def _attach(shard: TenantShard) -> None:
    context, generation = shard.context, shard.generation
    manifest = await load_manifest(context.storage, shard.id, generation)
    found = await _preload(shard)
    await run_blocking(_remove_orphans, shard, set(found.indices) | found.unreadable)
    for timeline_id, index in found.indices.items():
        if index.deleted_at is not None:
            shard.timelines[timeline_id] = load_deleted(shard, timeline_id, index)
            shard.deleting.add(timeline_id)
            shard.scope.spawn(log_failure("timeline deletion", finish_deletion(shard, timeline_id)))
            continue
        timeline = await load_timeline(
            context, shard.id, timeline_id, shard.conf.shard, generation, index, shard.conf.mode
        )
        if isinstance(index.import_state, ImportInProgress):
            state = index.import_state
            # An import asks for its status before it writes anything, so one that wrote was answered.
            is_recorded = index.metadata != TimelineMetadata.before_import()
            shard.start_import(
                ImportTask(context, timeline, state.location, state.idempotency_key, is_recorded=is_recorded)
            )
        else:
            shard.timelines[timeline_id] = timeline
    await upload_manifest_if_changed(
        context.storage, shard.id, generation, manifest, shard.conf.shard.stripe_size
    )
    await failpoints.sleep_for_returned_ms("attach-before-activate-sleep")
    if await failpoints.hit("attach-before-activate") is not None:
        raise FailpointPanic("failpoint attach-before-activate")
    shard.state.advance(Phase.ACTIVATING)
    for timeline in shard.timelines.values():
        if timeline.state is TimelineState.LOADING:
            timeline.state = TimelineState.ACTIVE
    shard.state.advance(Phase.ACTIVE)
    log.info("activation of %s is complete, %d timelines", shard.id, len(shard.timelines))


async def _preload(shard: TenantShard) -> _Preload:
    """The indices of all timelines that remote storage knows."""
    if await failpoints.hit("storage-sync-list-remote-timelines") is not None:
        raise RemoteError("storage-sync-list-remote-timelines")
    storage = shard.context.storage
    prefix = f"{tenant_prefix(shard.id)}/timelines"
    names = await retry_forever("listing of timelines", lambda: storage.list_directories(prefix))
    at_a_time = asyncio.Semaphore(_INDICES_AT_A_TIME)
    found = _Preload()

    async def load(name: str) -> None:
        try:
            timeline_id = TimelineId(name)
        except ValueError:
            log.info("%s/%s is no timeline", prefix, name)
            return
        try:
            async with at_a_time:
                found.indices[timeline_id] = await load_index(
                    storage, shard.id, timeline_id, shard.generation
                )
        except ObjectNotFound:
            log.info("timeline %s has no index in remote storage, ignoring it", timeline_id)
        except IndexPartError as e:
            log.error("index of timeline %s cannot be read, skipping the timeline: %s", timeline_id, e)
            found.unreadable.add(timeline_id)

    await asyncio.gather(*(load(name) for name in names))
    return found


def _remove_orphans(shard: TenantShard, known: set[TimelineId]) -> None:
    """Removes local timelines that remote storage does not know. Raises OSError."""
    directory = shard.context.tenant_directory(shard.id) / "timelines"
    directory.mkdir(parents=True, exist_ok=True)
    names = {str(timeline_id) for timeline_id in known}
    for path in directory.iterdir():
        if path.name not in names:
            log.info("removing local timeline %s, which remote storage does not have", path.name)
            aside = move_aside(path)
            if aside is not None:
                remove_tree(aside)
