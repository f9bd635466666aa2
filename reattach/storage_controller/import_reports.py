"""Reports that arrive while others are being recorded are recorded together."""

from __future__ import annotations

import asyncio
from collections import deque

from reattach.api.upcall import PutImportStatusRequest
from reattach.runtime.errors import ApiError
from reattach.storage_controller.background import Background
from reattach.storage_controller.db import import_reports as table
from reattach.storage_controller.db.database import Database
from reattach.storage_controller.db.import_reports import Reported

MAX_BATCH = 64

_Pending = tuple[PutImportStatusRequest, asyncio.Future[Reported]]


class StatusReports:
    """Records reports in the order of their arrival, a batch at a time."""

    def __init__(self, db: Database, background: Background) -> None:
        self._db = db
        self._background = background
        self._pending: deque[_Pending] = deque()
        self._is_recording = False

    async def submit(self, report: PutImportStatusRequest) -> Reported:
        """Returns when the report is durable or refused.

        Raises StaleGeneration, UnknownTenantShard, UnknownImport, DatabaseUnavailable.
        """
        outcome: asyncio.Future[Reported] = asyncio.get_running_loop().create_future()
        self._pending.append((report, outcome))
        if not self._is_recording:
            self._is_recording = True
            self._background.spawn(self._record_all(), "record import statuses")
        return await outcome

    async def _record_all(self) -> None:
        try:
            while self._pending:
                batch = [self._pending.popleft() for _ in range(min(len(self._pending), MAX_BATCH))]
                await self._record(batch)
        finally:
            self._is_recording = False

    async def _record(self, batch: list[_Pending]) -> None:
        try:
            outcomes = await table.record(self._db, [report for report, _ in batch])
        except ApiError as e:
            for _, future in batch:
                if not future.done():
                    future.set_exception(e)
            return
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if future.done():
                continue
            if isinstance(outcome, Reported):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)
