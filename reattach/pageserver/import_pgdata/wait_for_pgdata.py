"""Waiting for the upload of the data directory to be complete."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from reattach.api import codec
from reattach.pageserver.import_pgdata.bucket import Bucket
from reattach.pageserver.import_pgdata.errors import ImportInterrupted, ObjectError, ObjectMissing
from reattach.pageserver.import_pgdata.target import ImportTarget

log = logging.getLogger(__name__)

STATUS_PATH = "status/pgdata"
FIRST_POLL_SECONDS = 0.1
LAST_POLL_SECONDS = 10.0
_GROWTH = 1.5
MALFORMED_ANSWERS = 6
"""How often in a row the object may be malformed; whoever writes it might be at it."""


class PgDataStatus(msgspec.Struct):
    done: bool


async def wait_for_pgdata(bucket: Bucket, target: ImportTarget) -> None:
    """Polls, ever more slowly, until the uploader says that all of `pgdata/` is there.

    Raises ObjectError if the status stays malformed or unreadable, ImportInterrupted on shutdown.
    """
    seconds = FIRST_POLL_SECONDS
    malformed = 0
    while True:
        try:
            raw = await bucket.read_object(STATUS_PATH)
            if codec.decode(raw, PgDataStatus).done:
                return
            malformed, why = 0, "it is not done"
        except ObjectMissing:
            malformed, why = 0, "there is none"
        except (codec.DecodeError, UnicodeDecodeError) as e:
            malformed += 1
            why = f"it is malformed: {e}"
            if malformed == MALFORMED_ANSWERS:
                raise ObjectError(STATUS_PATH, why) from e
        log.info("indefinitely waiting for pgdata to finish (%s: %s)", STATUS_PATH, why)
        await asyncio.sleep(seconds)
        seconds = min(seconds * _GROWTH, LAST_POLL_SECONDS)
        if target.is_cancelling:
            raise ImportInterrupted("cancelled while waiting for pgdata")
