"""In which order a timeline's changes may reach remote storage. Pure: no clock, no I/O.

Whatever moment the storage is looked at, the index there references only objects that exist:

* an index upload waits for every layer upload before it;
* index uploads never overtake each other, and queued ones that nothing separates coalesce into the last;
* a deletion waits for every index upload before it, so that no index references what it removes;
* work on one object happens in the order of asking, so that an object is written again only after the index
  that does without it, and the deletion of its old content.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class UploadLayer:
    """`source` means nothing here."""

    path: str
    source: object = None


@dataclass(frozen=True, slots=True)
class UploadIndex(Generic[S]):
    """`snapshot` is what will be uploaded, in place of `calls` uploads that were asked for."""

    snapshot: S
    calls: int = 1


@dataclass(frozen=True, slots=True)
class DeleteLayers:
    paths: frozenset[str]


Operation = UploadLayer | UploadIndex[S] | DeleteLayers


@dataclass(slots=True)
class _Entry(Generic[S]):
    operation: Operation[S]
    running: bool = False


@dataclass(slots=True)
class UploadOrder(Generic[S]):
    """The operations that were asked for and are not finished. Tickets number them in the order of asking."""

    _entries: dict[int, _Entry[S]] = field(default_factory=dict)
    _last_ticket: int = 0

    def push(self, operation: Operation[S]) -> int:
        self._last_ticket += 1
        self._entries[self._last_ticket] = _Entry(operation)
        return self._last_ticket

    @property
    def last_ticket(self) -> int:
        return self._last_ticket

    def __len__(self) -> int:
        return len(self._entries)

    def done_up_to(self, ticket: int) -> bool:
        """Whether everything that was asked for up to `ticket` is finished."""
        return next(iter(self._entries), ticket + 1) > ticket

    def startable(self) -> list[int]:
        """The tickets that may start now, side by side with those that run."""
        return list(self._startable())

    def _startable(self) -> Iterator[int]:
        touched: set[str] = set()
        layer_before = index_before = False
        for ticket, entry in self._entries.items():
            match entry.operation:
                case UploadLayer(path):
                    if not entry.running and path not in touched:
                        yield ticket
                    touched.add(path)
                    layer_before = True
                case UploadIndex():
                    if not entry.running and not layer_before and not index_before:
                        yield ticket
                    index_before = True
                case DeleteLayers(paths):
                    if not entry.running and not index_before and touched.isdisjoint(paths):
                        yield ticket
                    touched |= paths

    def start(self, ticket: int) -> Operation[S]:
        """Marks a startable operation as running and returns what to do.

        For an index upload that is the content of the last one queued behind it before any layer upload;
        those in between are dropped from the queue, since their content is part of it.
        """
        entry = self._entries[ticket]
        if isinstance(entry.operation, UploadIndex):
            for later in [t for t in self._entries if t > ticket]:
                operation = self._entries[later].operation
                if isinstance(operation, UploadLayer):
                    break
                if isinstance(operation, UploadIndex):
                    calls = entry.operation.calls + operation.calls
                    entry.operation = replace(operation, calls=calls)
                    del self._entries[later]
        entry.running = True
        return entry.operation

    def finish(self, ticket: int) -> None:
        del self._entries[ticket]

    def drop_queued(self) -> None:
        """Forgets everything that does not run yet."""
        self._entries = {ticket: entry for ticket, entry in self._entries.items() if entry.running}
