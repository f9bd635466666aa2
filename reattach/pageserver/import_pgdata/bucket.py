"""The import bucket: listing and reading, whatever store it lies in."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from reattach.api.location import ImportLocation, LocalFs
from reattach.pageserver.import_pgdata.bucket_object import BucketObject
from reattach.pageserver.import_pgdata.config import ImportConfig
from reattach.pageserver.import_pgdata.errors import ObjectError
from reattach.pageserver.layers.blobs import Buffer
from reattach.runtime.backoff import WARN_AFTER_FAILURES, back_off

log = logging.getLogger(__name__)

T = TypeVar("T")

REFUSALS = 5
"""How often a store may refuse a request (access denied, bad request) before the import ends with that."""


class RangeRead(NamedTuple):
    """The bytes `start` to `end` of an object, which must still be the one that was listed."""

    source: BucketObject
    start: int
    end: int


class Bucket(Protocol):
    """Paths are relative to the import's location.

    Throttling, resets, stalls and short bodies are retried without end, refusals a few times. Methods raise
    ObjectError (ObjectMissing, ObjectChanged) for what cannot succeed.
    """

    async def list_tree(self, prefix: str) -> list[BucketObject]:
        """Every object below the directory `prefix`, at any depth, in any order; empty if there is none."""

    async def list_directory(self, directory: str) -> list[BucketObject]:
        """The objects right in the directory, in any order."""

    async def read_object(self, path: str) -> bytes:
        """A whole object, whatever it is now."""

    async def read_listed(self, source: BucketObject) -> bytes:
        """A whole object, which must still be the one that was listed."""

    async def map_ranges(self, reads: Sequence[RangeRead], work: Callable[[Buffer], T]) -> T:
        """Reads the bytes of each, never fewer than asked for, and works on all of them, back to back, in a
        thread.

        `work` must not keep the buffer: it may be used again. Its own errors must not be OSErrors.
        """


def open_bucket(location: ImportLocation, config: ImportConfig, on_bytes: Callable[[int], None]) -> Bucket:
    """The client of an import location. `on_bytes` hears of every read. Raises OSError, ValueError."""
    if isinstance(location.place, LocalFs):
        from reattach.pageserver.import_pgdata.bucket_local import LocalBucket

        return LocalBucket(location.place, on_bytes)
    # Its client library costs start-up time that a local import need not pay.
    from reattach.pageserver.import_pgdata.bucket_s3 import S3Bucket

    return S3Bucket(location.place, config, on_bytes)


class TransientFailure(Exception):
    """The store did not answer, or not wholly; the next attempt may succeed."""


class Refusal(Exception):
    """The store answered that it will not. Only a change on its side can make the next attempt succeed."""


async def retried(path: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Attempts until it succeeds, backing off. Raises ObjectError, naming `path`, after too many refusals."""
    failures = refusals = 0
    while True:
        await back_off(failures)
        try:
            return await attempt()
        except (TransientFailure, Refusal) as e:
            failures += 1
            refusals += isinstance(e, Refusal)
            if refusals >= REFUSALS:
                raise ObjectError(path, f"{e} (refused {refusals} times)") from None
            level = logging.INFO if failures < WARN_AFTER_FAILURES else logging.WARNING
            log.log(level, "reading %s failed, will retry (attempt %d): %s", path, failures, e)
