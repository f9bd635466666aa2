"""Bringing a tenant shard to life: from remote storage and what the disk still has of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Set
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from reattach.api import codec
from reattach.api.ids import TimelineId
from reattach.api.remote_path import tenant_prefix
from reattach.pageserver.blocking import run_blocking
from reattach.pageserver.files import move_aside, remove_tree
from reattach.pageserver.layers.index_part import ImportInProgress, IndexPart
from reattach.pageserver.layers.timeline_metadata import TimelineMetadata
from reattach.pageserver.remote.index_choice import generation_of
from reattach.pageserver.remote.storage import ObjectNotFound, RemoteError, retry_forever
from reattach.pageserver.remote.timeline_objects import INDEX_NAME
from reattach.pageserver.remote.tombstones import load_tombstones, remove_dead
from reattach.pageserver.remote.upload_queue import QueueStopped
from reattach.pageserver.scope import log_failure
from reattach.pageserver.tenant.manifest import MalformedManifest, load_manifest, upload_manifest_if_changed
from reattach.pageserver.tenant.shard import TenantShard
from reattach.pageserver.tenant.state import Phase
from reattach.pageserver.timeline.delete import finish_deletion, load_deleted
from reattach.pageserver.timeline.import_task import ImportTask
from reattach.pageserver.timeline.load import UnreadableIndex, UnusableIndex, load_index, load_timeline
from reattach.pageserver.timeline.local_files import UnknownFiles
from reattach.pageserver.timeline.lost import report_lost
from reattach.pageserver.timeline.timeline import TimelineState
from reattach.runtime.backoff import soon
from reattach.runtime.failpoints import FailpointPanic, failpoints
from reattach.runtime.logs import span

log = logging.getLogger(__name__)

_INDICES_AT_A_TIME = 16
_LONGEST_DELAY_SECONDS = 30.0


@dataclass(slots=True)
class _Preload:
    """dead: timelines that were deleted, of which something came late."""

    indices: dict[TimelineId, IndexPart] = field(default_factory=dict)
    dead: dict[TimelineId, int] = field(default_factory=dict)


async def attach(shard: TenantShard, turn: asyncio.Semaphore | None) -> None:
    """Runs from Attaching to Active, or to Broken with the reason. Raises nothing but CancelledError.

    What may pass, as trouble of the storage or of the disk, is tried again until it has passed. Meanwhile the
    tenant shard is Broken, so that a person sees why.

    turn: held while loading; None for an attachment that need not queue. One that a client waits for does
    not queue either.
    """
    with span("attach", tenant_id=shard.id.tenant_id, shard_id=shard.id.shard_index, gen=shard.generation):
        failures = 0
        while True:
            try:
                await failpoints.sleep_for_returned_ms("before-attaching-tenant")
                if turn is None or shard.activate_now.is_set():
                    await _attach(shard)
                else:
                    async with _turn_unless(turn, shard.activate_now):
                        await _attach(shard)
                return
            except (FailpointPanic, OSError, ObjectNotFound, RemoteError) as e:
                failures += 1
                log.error("attach failed (attempt %d), will be tried again: %s", failures, e)
                shard.state.advance(Phase.BROKEN, f"{e} (attempt {failures} to attach, will be tried again)")
            except (codec.DecodeError, MalformedManifest, UnknownFiles, UnusableIndex) as e:
                log.exception("attach failed, setting tenant state to Broken")
                shard.state.advance(Phase.BROKEN, str(e))
                return
            except Exception as e:
                log.exception("attach failed unexpectedly, setting tenant state to Broken")
                shard.context.metrics.tenant_manager_unexpected_errors.inc()
                shard.state.advance(Phase.BROKEN, f"unexpected {type(e).__name__}: {e}")
                return
            await shard.unload()
            await asyncio.sleep(min(soon(failures) * failures, _LONGEST_DELAY_SECONDS))


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
    orphans = await run_blocking(_remove_orphans, shard, found.indices.keys() | shard.unreadable.keys())
    for timeline_id, index in found.indices.items():
        if index.deleted_at is not None:
            shard.timelines[timeline_id] = load_deleted(shard, timeline_id, index)
            shard.deleting.add(timeline_id)
            shard.scope.spawn(log_failure("timeline deletion", finish_deletion(shard, timeline_id)))
            continue
        timeline = await load_timeline(
            context, shard.id, timeline_id, shard.conf.shard, generation, index, shard.conf.mode
        )
        await failpoints.pausable("attach-after-timeline-is-loaded-pausable")
        # A timeline that is nowhere yet does not hear of another mode.
        timeline.client.set_mode(shard.conf.mode)
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
    shard.scope.spawn(log_failure("clean-up after an attachment", _clean_up(shard, found, orphans)))


async def _clean_up(shard: TenantShard, found: _Preload, orphans: Collection[TimelineId]) -> None:
    """What an attachment finds to do that nobody has to wait for."""
    storage = shard.context.storage
    for timeline_id, generation in found.dead.items():
        await remove_dead(storage, shard.id, timeline_id, min(generation, shard.generation))
    for timeline_id, reason in shard.unreadable.items():
        shard.scope.spawn(report_lost(shard, timeline_id, reason))
    for timeline_id in orphans:
        reason = "remote storage has nothing of it"
        shard.scope.spawn(report_lost(shard, timeline_id, reason, only_if_begun=True))
    for timeline in list(shard.timelines.values()):
        if timeline.client.index.is_import_done and timeline.state is TimelineState.ACTIVE:
            try:
                await timeline.client.delete_unnamed()
            except QueueStopped:
                log.info("%s shuts down, what is left over of it stays", timeline)


async def _preload(shard: TenantShard) -> _Preload:
    """The indices of all timelines that remote storage knows."""
    if await failpoints.hit("storage-sync-list-remote-timelines") is not None:
        raise RemoteError("storage-sync-list-remote-timelines")
    storage = shard.context.storage
    prefix = f"{tenant_prefix(shard.id)}/timelines"
    names, shard.buried = await asyncio.gather(
        retry_forever("listing of timelines", lambda: storage.list_directories(prefix)),
        load_tombstones(storage, shard.id),
    )
    at_a_time = asyncio.Semaphore(_INDICES_AT_A_TIME)
    found = _Preload()

    async def load(name: str) -> None:
        try:
            timeline_id = TimelineId(name)
        except ValueError:
            log.info("%s/%s is no timeline", prefix, name)
            return
        buried = shard.buried.get(timeline_id, -1)
        index, problem, generation = None, "", 0
        try:
            async with at_a_time:
                path, index = await load_index(storage, shard.id, timeline_id, shard.generation)
            generation = generation_of(path) or 0
        except ObjectNotFound:
            problem = f"{prefix}/{name} has no {INDEX_NAME} up to generation {shard.generation:08x}"
        except UnreadableIndex as e:
            problem, generation = str(e), generation_of(e.path) or 0
        if generation <= buried:
            log.info("timeline %s was deleted, what came late of it is not loaded", timeline_id)
            found.dead[timeline_id] = buried
        elif index is None:
            log.error("index of timeline %s cannot be read, skipping the timeline: %s", timeline_id, problem)
            shard.unreadable[timeline_id] = problem
        else:
            found.indices[timeline_id] = index

    await asyncio.gather(*(load(name) for name in names))
    return found


def _remove_orphans(shard: TenantShard, known: Set[TimelineId]) -> list[TimelineId]:
    """Removes local timelines that remote storage does not know, and returns them. Raises OSError."""
    directory = shard.context.tenant_directory(shard.id) / "timelines"
    directory.mkdir(parents=True, exist_ok=True)
    names = {str(timeline_id) for timeline_id in known}
    removed = []
    for path in directory.iterdir():
        if path.name not in names:
            log.info("removing local timeline %s, which remote storage does not have", path.name)
            with suppress(ValueError):
                removed.append(TimelineId(path.name))
            aside = move_aside(path)
            if aside is not None:
                remove_tree(aside)
    return removed
