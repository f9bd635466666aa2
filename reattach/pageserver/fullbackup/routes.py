"""The backup over HTTP."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import StreamingResponse

from reattach.pageserver.fullbackup.source import BackupError
from reattach.pageserver.fullbackup.stream import Backup
from reattach.pageserver.fullbackup.timeline_backup import backup_timeline
from reattach.pageserver.http.api import TIMELINE, Api, Endpoint, timeline_id
from reattach.pageserver.http.pages import LSN
from reattach.runtime.errors import InternalError, cause_chain

log = logging.getLogger(__name__)


async def fullbackup(api: Api, request: Request) -> StreamingResponse:
    """A tar of the timeline's data directory, at `lsn` or at its end.

    Of a shard of several it has that shard's pages; the rest of each file are holes. What cannot be read
    while it is sent ends the connection before `content-length` bytes; the log says why.
    """
    lsn = LSN.of(request)
    timeline = (await api.attached(request)).active_timeline(timeline_id(request))
    try:
        backup = await backup_timeline(timeline, lsn)
    except BackupError as e:
        raise InternalError(cause_chain(e)) from e
    headers = {"content-length": str(backup.size)}
    return StreamingResponse(_logged(backup), media_type="application/x-tar", headers=headers)


async def _logged(backup: Backup) -> AsyncGenerator[bytes | memoryview]:
    async with aclosing(backup.stream()) as buffers:
        try:
            async for buffer in buffers:
                yield buffer
        except BackupError as e:
            log.error("backup was cut short: %s", cause_chain(e))
            raise


ENDPOINTS = [Endpoint("GET", TIMELINE + "/fullbackup", fullbackup, (LSN,))]
