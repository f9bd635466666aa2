"""What a backup reads from: the values and pages of a timeline at one LSN, as one shard holds them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from reattach.api.key import Key, KeyRange
from reattach.api.lsn import Lsn
from reattach.api.shard import ShardIdentity


class BackupError(Exception):
    """The timeline cannot be read as a whole. The text names the key, the layer or the object."""


class MissingKey(BackupError):
    """A key has no value."""

    def __init__(self, key: Key, shard: ShardIdentity, lsn: Lsn, hint: str = "") -> None:
        place = f"shard {shard.index}, LSN {lsn}{', ' if hint else ''}{hint}"
        super().__init__(f"could not find data for key {key} ({place})")
        self.key = key


class PageSource(Protocol):
    """A timeline at one LSN. Both reads raise BackupError."""

    @property
    def shard(self) -> ShardIdentity: ...

    @property
    def pg_version(self) -> int: ...

    @property
    def lsn(self) -> Lsn: ...

    async def values(self, keys: Sequence[Key]) -> list[bytes | None]:
        """The value of each key, None where there is none. Keys in ascending order."""
        ...

    def pages(self, runs: Sequence[KeyRange]) -> AsyncGenerator[memoryview]:
        """The pages of all runs, one after another, in buffers of whole pages of at most a few MiB.

        Runs in ascending order, each within one relation fork or SLRU segment. Every key must have a page
        of 8192 bytes; the first that has none raises MissingKey.
        """
        ...
