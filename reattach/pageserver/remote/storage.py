"""Objects by name: what a directory and an S3 bucket have in common."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from reattach.runtime.backoff import WARN_AFTER_FAILURES, WARN_AFTER_SOON, back_off, delay_before, soon

log = logging.getLogger(__name__)

T = TypeVar("T")


class RemoteError(Exception):
    """The storage did not do what was asked; it may the next time."""


class RemoteRefused(RemoteError):
    """The storage will not, for a reason that is its own. It seldom does the next time."""


class ObjectNotFound(Exception):
    """There is no such object."""

    def __init__(self, path: str) -> None:
        super().__init__(f"No file found for the remote object id given: {path}")
        self.path = path


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """A listed object. `path` as it was put, `size` in bytes."""

    path: str
    size: int
    last_modified: datetime

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class RemoteStorage(Protocol):
    """Every method does one attempt and raises RemoteError if that fails."""

    async def get(self, path: str) -> bytes:
        """Raises ObjectNotFound."""

    async def head(self, path: str) -> ObjectInfo:
        """Raises ObjectNotFound."""

    async def put(self, path: str, data: bytes) -> None: ...

    async def upload_file(self, source: Path, path: str) -> None:
        """Raises OSError if the local file cannot be read."""

    async def download_file(self, path: str, target: Path) -> int:
        """Writes the object to a new local file and returns its size.

        Raises ObjectNotFound, or OSError if the local file cannot be written. Leaves no file on failure.
        """

    async def list_objects(self, prefix: str, *, after: str | None = None) -> list[ObjectInfo]:
        """The objects below the directory `prefix`, in name order, only those after the path `after`."""

    async def list_beginning(self, text: str) -> list[ObjectInfo]:
        """The objects in whose path `text` is followed by something, `/` or not, in name order."""

    async def list_children(self, prefix: str) -> list[ObjectInfo]:
        """The objects directly below the directory `prefix`, in name order."""

    async def list_directories(self, prefix: str) -> list[str]:
        """The names directly below the directory `prefix` that have objects below them."""

    async def delete(self, paths: Sequence[str]) -> None:
        """Objects that do not exist count as deleted."""


async def retry_forever(what: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Repeats on RemoteError, with back-off, until it succeeds or the caller is cancelled."""
    return await _retry(what, attempt, soon, WARN_AFTER_SOON)


async def _retry(
    what: str, attempt: Callable[[], Awaitable[T]], delay: Callable[[int], float], warn_after: int
) -> T:
    failures = 0
    while True:
        if failures:
            await asyncio.sleep(delay(failures))
        try:
            return await attempt()
        except RemoteError as e:
            failures += 1
            level = logging.WARNING if failures >= warn_after else logging.INFO
            log.log(level, "%s failed, will retry (attempt %d): %s", what, failures, e)


async def retry_unless_refused(what: str, times: int, attempt: Callable[[], Awaitable[T]]) -> T:
    """Like `retry_forever`, but raises the last of `times` RemoteRefused."""
    refusals = 0

    async def count() -> T | RemoteRefused:
        nonlocal refusals
        try:
            return await attempt()
        except RemoteRefused as e:
            refusals += 1
            if refusals >= times:
                return e
            raise

    answer = await _retry(what, count, delay_before, WARN_AFTER_FAILURES)
    if isinstance(answer, RemoteRefused):
        raise answer
    return answer


async def try_times(what: str, times: int, attempt: Callable[[], Awaitable[T]]) -> T:
    """Like `retry_forever`, but raises the RemoteError of the last of `times` attempts."""
    for failures in range(times - 1):
        await back_off(failures)
        try:
            return await attempt()
        except RemoteError as e:
            log.info("%s failed, will retry (attempt %d): %s", what, failures + 1, e)
    await back_off(times - 1)
    return await attempt()
