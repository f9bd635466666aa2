"""The life of imports: recorded, created, reported on, finalised, deleted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from reattach.api.controller import TimelineCreateRequest, TimelineImportInfo
from reattach.api.ids import TenantId, TenantShardId, TimelineId
from reattach.api.import_status import ShardImportStatus
from reattach.api.lsn import INVALID_LSN
from reattach.api.timeline import TimelineInfo
from reattach.api.upcall import GetImportStatusRequest, PutImportStatusRequest
from reattach.runtime.errors import (
    BadRequest,
    Conflict,
    InternalError,
    NotFound,
    PreconditionFailed,
    ResourceUnavailable,
)
from reattach.runtime.logs import span
from reattach.storage_controller import import_view
from reattach.storage_controller.background import Background
from reattach.storage_controller.core.import_state import Transition
from reattach.storage_controller.db import imports as table
from reattach.storage_controller.db.database import Database, until_available
from reattach.storage_controller.db.imports import ImportKey, ImportRow
from reattach.storage_controller.db.rows import BadRow
from reattach.storage_controller.import_creation import Creation, ImportCreator
from reattach.storage_controller.import_finalization import Finalizer
from reattach.storage_controller.import_reports import StatusReports
from reattach.storage_controller.metrics import Metrics

log = logging.getLogger(__name__)

CREATE_TIMEOUT = 20.0
"""Seconds that a client waits for the pageservers; creation goes on after that."""


@dataclass(slots=True)
class _Finalization:
    """A running finaliser; `again` if it was asked for once more meanwhile."""

    task: asyncio.Task[None] | None = None
    again: bool = False


class Imports:
    """At most one creator and one finaliser per import; none while it is being deleted."""

    def __init__(
        self,
        db: Database,
        creator: ImportCreator,
        finalizer: Finalizer,
        background: Background,
        metrics: Metrics,
    ) -> None:
        self._db = db
        self._creator = creator
        self._finalizer = finalizer
        self._background = background
        self._metrics = metrics
        self._creations: dict[ImportKey, tuple[Creation, asyncio.Task[None]]] = {}
        self._finalizations: dict[ImportKey, _Finalization] = {}
        self._deleting: dict[ImportKey | TenantId, int] = {}
        self._reports = StatusReports(db, background)

    async def resume(self) -> None:
        """After a start: takes up every import where the last process left it. Raises DatabaseUnavailable."""
        for tenant, timeline in await table.delete_orphans(self._db):
            log.info("Removed import %s/%s of a tenant that does not exist", tenant, timeline)
        for row in await table.list_unfinished(self._db):
            if row.is_complete:
                self.ensure_finalizer(row.key)
            elif row.needs_creation:
                self._ensure_creator(row.key)

    async def create(
        self,
        tenant: TenantId,
        request: TimelineCreateRequest,
        body: dict[str, Any],
        check_shards: Callable[[list[TenantShardId]], None],
    ) -> TimelineInfo:
        """Records the import and has the pageservers create the timeline. Idempotent by its key.

        Raises Conflict for another import of that id, what a pageserver refuses it with, and
        ResourceUnavailable if it is recorded but not yet created.
        """
        assert request.import_pgdata is not None
        key = (tenant, request.new_timeline_id)
        if self._is_being_deleted(key):
            raise Conflict(f"timeline {key[1]} is being deleted")
        row = await table.insert(self._db, *key, body, check_shards)
        if row.idempotency_key not in (None, request.import_pgdata.idempotency_key):
            raise Conflict("timeline already exists with different parameters")
        if row.request == body and row.needs_creation:
            log.info("Inserted timeline import %s/%s", *key)
        if row.needs_creation:
            creation = self._ensure_creator(key)
            if creation is None:
                raise ResourceUnavailable(f"timeline {key[1]} is being deleted")
            await self._await_creation(creation)
        return _fresh_timeline(row)

    @staticmethod
    async def _await_creation(creation: Creation) -> None:
        done, _ = await asyncio.wait([creation.acknowledged], timeout=CREATE_TIMEOUT)
        if not done:
            raise ResourceUnavailable(
                f"the import is recorded and its creation goes on: {creation.last_error or 'no answer yet'}"
            )
        await creation.acknowledged

    async def status(self, request: GetImportStatusRequest) -> ShardImportStatus:
        """Raises BadRequest for a stale generation, NotFound, InternalError for an unknown shard."""
        shard = request.tenant_shard_id
        try:
            return await table.status(self._db, shard, request.timeline_id, request.generation)
        except table.StaleGeneration:
            log.info(
                "Rejecting import progress fetch from stale generation: %s %s", shard, request.generation
            )
            raise BadRequest("Invalid generation") from None
        except table.UnknownTenantShard as e:
            raise InternalError(str(e)) from None
        except table.UnknownImport as e:
            raise NotFound(str(e)) from None

    async def report(self, request: PutImportStatusRequest) -> None:
        """Raises PreconditionFailed for a stale generation, and as the transition says."""
        shard, timeline, status = request.tenant_shard_id, request.timeline_id, request.status
        key = (shard.tenant_id, timeline)
        try:
            reported = await self._reports.submit(request)
        except table.StaleGeneration:
            log.info(
                "Rejecting import progress update from stale generation: %s %s", shard, request.generation
            )
            self._metrics.import_status_updates.labels("stale").inc()
            raise PreconditionFailed("Invalid generation") from None
        except table.UnknownTenantShard as e:
            raise InternalError(str(e)) from None
        except table.UnknownImport as e:
            raise NotFound(str(e)) from None
        self._metrics.import_status_updates.labels(reported.transition.name.lower()).inc()
        match reported.transition:
            case Transition.STORE:
                log.info("Updated timeline import status to: %s %s/%s", status.to_json(), shard, timeline)
            case Transition.OUTDATED:
                log.info(
                    "Ignored outdated timeline import status: %s %s/%s", status.to_json(), shard, timeline
                )
            case Transition.REJECT_TERMINAL:
                raise InternalError("Update request is unexpected")
            case Transition.REJECT_PLAN:
                raise Conflict("Import plan does not match the recorded one")
            case Transition.REJECT_MALFORMED:
                raise BadRequest("more jobs are completed than there are")
        if reported.complete:
            self.ensure_finalizer(key)

    async def describe(self, tenant: TenantId, timeline: TimelineId) -> TimelineImportInfo:
        """Raises NotFound."""
        row = await table.find(self._db, tenant, timeline)
        if row is None:
            raise NotFound(f"import for {tenant}/{timeline} not found")
        return self._view(row)

    async def describe_all(self, tenant: TenantId | None) -> list[TimelineImportInfo]:
        """The unfinished ones, oldest first."""
        return [self._view(row) for row in await table.list_unfinished(self._db, tenant)]

    def _view(self, row: ImportRow) -> TimelineImportInfo:
        waiting_for = self._finalizer.waiting_for.get(row.key)
        if waiting_for is None and (running := self._creations.get(row.key)) is not None:
            waiting_for = running[0].last_error
        return import_view.describe(row, waiting_for)

    def ensure_finalizer(self, key: ImportKey) -> None:
        """Starts one, unless one runs already or the import is being deleted."""
        if self._is_being_deleted(key):
            return
        running = self._finalizations.get(key)
        if running is not None:
            running.again = True
            return
        finalization = self._finalizations[key] = _Finalization()
        finalization.task = self._background.spawn(
            self._finalize(key, finalization), f"finalize import {key[0]}/{key[1]}"
        )

    async def _finalize(self, key: ImportKey, finalization: _Finalization) -> None:
        try:
            with span("finalize_timeline_import", tenant_id=key[0], timeline_id=key[1]):
                finalization.again = True
                while finalization.again:
                    finalization.again = False
                    await self._finalizer.run(key)
        except BadRow as e:
            self._db.leave_out([e])
        finally:
            del self._finalizations[key]

    def _ensure_creator(self, key: ImportKey) -> Creation | None:
        if self._is_being_deleted(key):
            return None
        if key not in self._creations:
            creation = Creation(key, asyncio.get_running_loop().create_future())
            task = self._background.spawn(self._create(creation), f"create import {key[0]}/{key[1]}")
            self._creations[key] = creation, task
        return self._creations[key][0]

    async def _create(self, creation: Creation) -> None:
        try:
            await self._creator.run(creation)
        except BadRow as e:
            self._db.leave_out([e])
            creation.refuse(e)
        finally:
            creation.refuse(ResourceUnavailable("the import is being deleted"))
            del self._creations[creation.key]

    def _is_being_deleted(self, key: ImportKey) -> bool:
        return key in self._deleting or key[0] in self._deleting

    @asynccontextmanager
    async def deleting(self, tenant: TenantId, timeline: TimelineId | None = None) -> AsyncIterator[None]:
        """Inside, nothing creates or finalises the import (all of the tenant's, if no timeline is given).

        What runs is stopped first. What is still recorded afterwards is taken up again.
        """
        target: ImportKey | TenantId = tenant if timeline is None else (tenant, timeline)
        self._deleting[target] = self._deleting.get(target, 0) + 1
        try:
            await self._stop(lambda key: key == target or key[0] == target)
            yield
        finally:
            self._deleting[target] -= 1
            if not self._deleting[target]:
                del self._deleting[target]
            self._background.spawn(self._take_up(tenant), f"take up imports of {tenant}")

    async def forget(self, tenant: TenantId, timeline: TimelineId) -> None:
        """Removes every record of the import. Only inside of `deleting`."""
        await table.delete(self._db, tenant, timeline)

    async def _stop(self, affected: Callable[[ImportKey], bool]) -> None:
        tasks: list[asyncio.Task[None]] = []
        for key, (creation, task) in self._creations.items():
            if affected(key):
                # A request that is on its way must have arrived before whatever undoes it is sent.
                creation.stopping.set()
                tasks.append(task)
        for key, finalization in self._finalizations.items():
            if affected(key) and finalization.task is not None:
                finalization.task.cancel()
                tasks.append(finalization.task)
        if tasks:
            await asyncio.wait(tasks)

    async def _take_up(self, tenant: TenantId) -> None:
        for row in await until_available(lambda: table.list_unfinished(self._db, tenant)):
            if row.is_complete:
                self.ensure_finalizer(row.key)
            elif row.needs_creation:
                self._ensure_creator(row.key)


def _fresh_timeline(row: ImportRow) -> TimelineInfo:
    """What a pageserver answers for a timeline whose import has just begun; a failed one is broken."""
    state: str | dict[str, object] = "Loading"
    if row.finished:
        state = "Active" if row.error is None else {"Broken": {"reason": row.error, "backtrace": ""}}
    return TimelineInfo(
        tenant_id=row.shards[0],
        timeline_id=row.timeline,
        last_record_lsn=INVALID_LSN,
        prev_record_lsn=None,
        applied_gc_cutoff_lsn=INVALID_LSN,
        min_readable_lsn=INVALID_LSN,
        disk_consistent_lsn=INVALID_LSN,
        remote_consistent_lsn=INVALID_LSN,
        remote_consistent_lsn_visible=INVALID_LSN,
        initdb_lsn=INVALID_LSN,
        current_logical_size=0,
        current_logical_size_is_accurate=False,
        pg_version=15,
        state=state,
    )
