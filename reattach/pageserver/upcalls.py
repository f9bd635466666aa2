"""What this pageserver asks of the storage controller. Every call repeats until it is answered."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TypeVar

from reattach.api import codec
from reattach.api.ids import NodeId, TenantShardId, TimelineId
from reattach.api.import_status import ShardImportStatus
from reattach.api.upcall import (
    GetImportStatusRequest,
    PutImportStatusRequest,
    ReAttachRequest,
    ReAttachResponse,
    ReAttachTenant,
    ValidateRequest,
    ValidateResponse,
    ValidateTenant,
)
from reattach.api.upcall import NodeRegisterRequest as Registration
from reattach.pageserver.import_pgdata.errors import ImportFailed, ImportInterrupted
from reattach.runtime.failpoints import failpoints
from reattach.runtime.http_client import HttpResponse, TransportError, request_json
from reattach.runtime.per_loop import per_loop

log = logging.getLogger(__name__)

T = TypeVar("T")

_TIMEOUT_SECONDS = 30.0
_CALLS_AT_A_TIME = 64
_FIRST_DELAY_SECONDS = 0.02
_LONGEST_DELAY_SECONDS = 3.0
_WARN_AFTER_SECONDS = 3.6

_NOT_FOUND = 404
_FORGOTTEN_AFTER = 3
"""So many answers in a row that there is no such import, when there was one, mean that it is gone."""

_NEVER_RECORDED_SECONDS = 600.0
"""For so long an import that was never seen may still come: whoever creates it may record it last."""

_MAY_SUCCEED_LATER = frozenset({401, 403, _NOT_FOUND, 408, 412, 429, 502, 503, 504})
"""Answers to a status update that say nothing about the update itself: the row may not be there yet, the
generation may be on its way."""


@per_loop
def _calls_at_a_time() -> asyncio.Semaphore:
    """Each is a connection, and all imports of a pageserver may want to say something at once."""
    return asyncio.Semaphore(_CALLS_AT_A_TIME)


class _Refused(Exception):
    """The controller answered, but not with success."""

    def __init__(self, url: str, response: HttpResponse) -> None:
        text = response.body[:500].decode("utf-8", "replace")
        super().__init__(f"{url} answered {response.status}: {text}")
        self.status = response.status


class _Retries:
    """Waits a little longer after each failure, and speaks up when it lasts."""

    def __init__(self) -> None:
        self._failures = 0
        self._since = time.monotonic()

    async def failed(self, error: Exception) -> None:
        self._failures += 1
        lasting = time.monotonic() - self._since > _WARN_AFTER_SECONDS
        log.log(
            logging.WARNING if lasting else logging.INFO,
            "storage controller upcall failed, will retry (attempt %d): %s",
            self._failures,
            error,
        )
        await asyncio.sleep(min(_FIRST_DELAY_SECONDS * 2 ** min(self._failures, 10), _LONGEST_DELAY_SECONDS))


class _Absence:
    """Counts answers that there is no such import.

    is_recorded: the controller had it once. Until then its record may only be late.
    """

    def __init__(self, is_recorded: bool) -> None:
        self.is_recorded = is_recorded
        self._in_a_row = 0
        self._since: float | None = None

    def answered(self, error: TransportError | _Refused) -> None:
        """Raises ImportInterrupted if nobody will ever answer otherwise."""
        if not isinstance(error, _Refused) or error.status != _NOT_FOUND:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if self.is_recorded and self._in_a_row >= _FORGOTTEN_AFTER:
            raise ImportInterrupted(f"the storage controller has forgotten the import: {error}") from error
        if not self.is_recorded and now - self._since >= _NEVER_RECORDED_SECONDS:
            raise ImportInterrupted(f"the storage controller never recorded the import: {error}") from error

    def found(self) -> None:
        self.is_recorded = True
        self._in_a_row = 0


class ControllerClient:
    """The controller's upcall API below `base_url`, which ends with a slash."""

    def __init__(self, base_url: str, token: str | None) -> None:
        self._base_url = base_url
        self._token = token

    async def re_attach(
        self, node_id: NodeId, registration: Registration | None, *, empty_local_disk: bool
    ) -> list[ReAttachTenant]:
        """Which tenant shards belong here, in which generation. Counts as a new attachment of each."""
        body = ReAttachRequest(node_id, registration, empty_local_disk)
        answer = await self._until_answered("re-attach", body, ReAttachResponse)
        await failpoints.sleep_for_returned_ms("control-plane-client-re-attach")
        return answer.tenants

    async def validate(self, tenants: Sequence[ValidateTenant]) -> dict[TenantShardId, bool]:
        """Whether each tenant shard still has that generation; shards that nobody knows are missing."""
        body = ValidateRequest(list(tenants))
        answer = await self._until_answered("validate", body, ValidateResponse)
        return {result.id: result.valid for result in answer.tenants}

    async def _until_answered(self, name: str, body: object, answer: type[T]) -> T:
        retries = _Retries()
        while True:
            try:
                return await self.call("POST", name, body, answer)
            except (TransportError, _Refused) as e:
                await retries.failed(e)

    async def call(self, method: str, name: str, body: object, answer: type[T]) -> T:
        """One attempt. Raises TransportError or _Refused."""
        url = self._base_url + name
        async with _calls_at_a_time():
            response = await request_json(
                method, url, body=codec.encode(body), token=self._token, timeout=_TIMEOUT_SECONDS
            )
        if not response.is_success:
            raise _Refused(url, response)
        try:
            return codec.decode(response.body, answer)
        except (codec.DecodeError, UnicodeDecodeError) as e:
            raise TransportError(f"{url} answered with something unexpected: {e}") from e


class ImportStatusClient:
    """The import status of one shard of one timeline, in one generation.

    `recorded` is the last status that the controller is known to have: read from it, or taken by it.
    """

    def __init__(
        self,
        controller: ControllerClient,
        tenant: TenantShardId,
        timeline: TimelineId,
        generation: int,
        *,
        is_recorded: bool = False,
    ) -> None:
        """is_recorded: an earlier attachment saw the import's row."""
        self._controller = controller
        self._tenant = tenant
        self._timeline = timeline
        self._generation = generation
        self._absence = _Absence(is_recorded)
        self.recorded: ShardImportStatus | None = None

    async def get_status(self) -> ShardImportStatus:
        """Repeats whatever the answer is: the row of an import may be inserted after its timelines are made.

        Raises ImportInterrupted if the controller has forgotten the import: it was deleted, or it ended.
        """
        retries = _Retries()
        while True:
            try:
                return await self._get()
            except (TransportError, _Refused) as e:
                self._absence.answered(e)
                await retries.failed(e)

    async def put_status(self, status: ShardImportStatus) -> None:
        """Repeats until the controller has the status.

        Raises ImportInterrupted if the import has ended there with another result or is forgotten, and
        ImportFailed if the controller understood the update and will not have it.
        """
        body = PutImportStatusRequest(self._tenant, self._timeline, status, self._generation)
        retries = _Retries()
        while True:
            try:
                await self._controller.call("POST", "timeline_import_status", body, type(None))
            except TransportError as e:
                self._absence.answered(e)
                await retries.failed(e)
            except _Refused as e:
                self._absence.answered(e)
                if e.status not in _MAY_SUCCEED_LATER and await self._is_settled(status, e):
                    return
                await retries.failed(e)
            else:
                self._absence.found()
                self.recorded = status
                return

    async def _is_settled(self, status: ShardImportStatus, refusal: _Refused) -> bool:
        """Whether the controller has the status already. Raises if it never will."""
        try:
            recorded = await self._get()
        except (TransportError, _Refused):
            return False
        if recorded == status:
            return True
        if recorded.is_terminal:
            raise ImportInterrupted(f"the import has ended with {recorded!r}: {refusal}") from refusal
        if refusal.status < 500:
            raise ImportFailed(f"the storage controller refused a status update: {refusal}") from refusal
        return False

    async def _get(self) -> ShardImportStatus:
        body = GetImportStatusRequest(self._tenant, self._timeline, self._generation)
        status = await self._controller.call("GET", "timeline_import_status", body, ShardImportStatus)
        self._absence.found()
        self.recorded = status
        return status
