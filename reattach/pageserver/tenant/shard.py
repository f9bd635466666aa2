"""A tenant shard that is attached here, in one generation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from reattach.api.ids import TenantShardId, TimelineId
from reattach.pageserver.context import Context
from reattach.pageserver.scope import Scope
from reattach.pageserver.tenant.location import LocationConf
from reattach.pageserver.tenant.state import ACTIVE_WAIT_SECONDS, Phase, TenantState
from reattach.pageserver.timeline.import_task import ImportTask
from reattach.pageserver.timeline.timeline import Timeline, TimelineState
from reattach.runtime.errors import NotFound

log = logging.getLogger(__name__)


class TenantShard:
    """One attachment. Another generation, or a reset, is another object.

    timelines: those that the API shows, also while they are being deleted.
    importing: those whose import has not been activated; nobody sees them.
    creating: ids that a create request has reserved. deleting: ids that a deletion works on.
    buried: the generations up to which deleted timelines are dead. unreadable: timelines that are left alone,
    here and in remote storage, with what is wrong with their index.
    """

    def __init__(self, context: Context, shard_id: TenantShardId, conf: LocationConf) -> None:
        self.context = context
        self.id = shard_id
        self.conf = conf
        self.generation = conf.attached_generation
        self.state = TenantState()
        self.scope = Scope()
        self.activate_now = asyncio.Event()
        self.timelines: dict[TimelineId, Timeline] = {}
        self.importing: dict[TimelineId, ImportTask] = {}
        self.creating: set[TimelineId] = set()
        self.deleting: set[TimelineId] = set()
        self.buried: dict[TimelineId, int] = {}
        self.unreadable: dict[TimelineId, str] = {}

    def start_import(self, task: ImportTask) -> None:
        self.importing[task.timeline.timeline_id] = task

    def all_timelines(self) -> Iterator[Timeline]:
        """Visible and importing ones."""
        yield from self.timelines.values()
        for task in self.importing.values():
            yield task.timeline

    async def wait_active(self) -> None:
        """Raises the ApiError that tells a client why the tenant shard cannot be used."""
        self.activate_now.set()
        await self.state.wait_active()

    async def settled(self) -> None:
        """Returns when attaching has come to an end, good or bad, or has taken too long."""
        self.activate_now.set()
        try:
            async with asyncio.timeout(ACTIVE_WAIT_SECONDS):
                await self.state.settled()
        except TimeoutError:
            log.info("%s is still attaching", self.id)

    def timeline(self, timeline_id: TimelineId) -> Timeline:
        """A visible timeline. Raises NotFound."""
        timeline = self.timelines.get(timeline_id)
        if timeline is None:
            raise NotFound(f"Timeline {self.id}/{timeline_id} was not found")
        return timeline

    def active_timeline(self, timeline_id: TimelineId) -> Timeline:
        """Raises NotFound also for one that is being deleted."""
        timeline = self.timeline(timeline_id)
        if timeline.state is not TimelineState.ACTIVE:
            raise NotFound(f"Timeline {self.id}/{timeline_id} is not active, state: {timeline.state}")
        return timeline

    def set_conf(self, conf: LocationConf) -> None:
        """Another mode or tenant configuration in the same generation."""
        self.conf = conf
        for timeline in self.all_timelines():
            timeline.client.set_mode(conf.mode)

    async def unload(self) -> None:
        """Undoes what an attempt to attach began."""
        importing, timelines = list(self.importing.values()), list(self.timelines.values())
        self.importing, self.timelines = {}, {}
        self.deleting.clear()
        await asyncio.gather(*(task.cancel() for task in importing))
        await asyncio.gather(*(task.timeline.shutdown(0) for task in importing))
        await asyncio.gather(*(timeline.shutdown(0) for timeline in timelines))

    async def flush(self, seconds: float) -> None:
        """Makes durable what there is, as far as that can be done in time. Failures are only logged."""
        timelines = list(self.all_timelines())
        results = await asyncio.gather(*(each.flush(seconds) for each in timelines), return_exceptions=True)
        for timeline, result in zip(timelines, results, strict=True):
            if result is not True:
                log.info("%s was not flushed within %s s: %s", timeline, seconds, result or "took too long")

    async def shutdown(self, drain_seconds: float) -> None:
        """Nothing of this attachment touches the disk or remote storage afterwards.

        drain_seconds: how long uploads of visible timelines may still take. What an import uploaded since its
        last checkpoint is of no use to the next attachment, so that is dropped.
        """
        self.state.advance(Phase.STOPPING)
        self.activate_now.set()
        await self.scope.cancel_tasks()
        importing = list(self.importing.values())
        for task in importing:
            task.timeline.state = TimelineState.STOPPING
        await asyncio.gather(*(task.cancel() for task in importing))
        await asyncio.gather(
            *(task.timeline.shutdown(0) for task in importing),
            *(timeline.shutdown(drain_seconds) for timeline in self.timelines.values()),
        )
        await self.scope.close()
        self.context.metrics.forget_timeline(str(self.id.tenant_id), str(self.id.shard_index))
        log.info("%s: shut down in generation %08x", self.id, self.generation)
