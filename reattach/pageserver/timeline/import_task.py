"""The import of one timeline, from when it is attached until it ends or is interrupted."""

from __future__ import annotations

import asyncio
import logging

from reattach.api.import_status import Done, Error, ShardImportStatus
from reattach.api.location import ImportLocation
from reattach.pageserver.context import Context
from reattach.pageserver.import_pgdata.errors import ImportInterrupted
from reattach.pageserver.import_pgdata.task import run_import
from reattach.pageserver.timeline.import_target import TimelineImportTarget
from reattach.pageserver.timeline.timeline import Timeline
from reattach.pageserver.upcalls import ImportStatusClient
from reattach.runtime.failpoints import failpoints
from reattach.runtime.logs import span

log = logging.getLogger(__name__)


class ImportTask:
    """Runs at once.

    idempotency_key: of the request that asked for the import. is_recorded: the controller had its row once,
    so that it does not wait for one that comes late.
    """

    def __init__(
        self,
        context: Context,
        timeline: Timeline,
        location: ImportLocation,
        idempotency_key: str,
        *,
        is_recorded: bool = False,
    ) -> None:
        self.timeline = timeline
        self.idempotency_key = idempotency_key
        self._context = context
        self._location = location
        self._status = ImportStatusClient(
            context.controller,
            timeline.tenant_shard_id,
            timeline.timeline_id,
            timeline.generation,
            is_recorded=is_recorded,
        )
        self._task = asyncio.create_task(self._run())

    @property
    def is_running(self) -> bool:
        return not self._task.done()

    @property
    def recorded_status(self) -> ShardImportStatus | None:
        """What the controller is known to have for this shard."""
        return self._status.recorded

    @property
    def has_succeeded(self) -> bool:
        return not self.is_running and isinstance(self.recorded_status, Done)

    @property
    def failure(self) -> str | None:
        """Why the import ended without success, None if it did not."""
        return self.recorded_status.message if isinstance(self.recorded_status, Error) else None

    @property
    def ended_without_result(self) -> bool:
        return not self.is_running and not (self.has_succeeded or self.failure is not None)

    def again(self) -> ImportTask:
        """Runs an import anew that has ended without a result, in the same generation."""
        for layer in self.timeline.layers:
            layer.written_here = False
        return ImportTask(self._context, self.timeline, self._location, self.idempotency_key)

    async def cancel(self) -> None:
        """Returns when nothing of the import runs any more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        timeline = self.timeline
        with span(
            "import_pgdata",
            tenant_id=timeline.tenant_shard_id.tenant_id,
            shard_id=timeline.tenant_shard_id.shard_index,
            timeline_id=timeline.timeline_id,
            generation=timeline.generation,
        ):
            try:
                await run_import(
                    TimelineImportTarget(timeline),
                    self._status,
                    self._location,
                    self._context.config.imports,
                    failpoints,
                    self._context.metrics.imports,
                )
            except asyncio.CancelledError:
                log.info("import task was cancelled")
                raise
            except ImportInterrupted as e:
                log.info("import task ends without a result: %s", e)
            except Exception:
                log.exception("task failed")
