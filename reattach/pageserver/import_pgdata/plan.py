"""The plan of an import: which jobs write which keys from which objects."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, TypeAlias

import numpy as np

from reattach.api.key import Key, KeyRange
from reattach.api.lsn import Lsn
from reattach.api.shard import ShardIdentity
from reattach.pageserver.import_pgdata.bucket_object import BucketObject
from reattach.pageserver.layers.key_arrays import Keys, Numbers, as_keys, key_of

Content: TypeAlias = bytes | BucketObject
"""A value that the planner already knows, or the segment file whose pages are the values."""

PAGES = -1
"""The value size of a task that writes pages."""


class Task(NamedTuple):
    """Writes the values of `length` keys, block by block from `first` on: a single value, or pages.

    Of a relation's pages only those that the shard keeps.
    """

    first: Key
    length: int
    content: Content

    @property
    def end(self) -> Key:
        """The key after the last one."""
        return self.first.advance(self.length)


@dataclass(frozen=True, slots=True, eq=False)
class Tasks:
    """Many tasks, in key order, as columns: there are some for each of thousands of relations.

    value_sizes: bytes, or PAGES.
    """

    firsts: Keys
    counts: Numbers
    value_sizes: Numbers
    contents: list[Content]

    @classmethod
    def of(cls, tasks: Iterable[Task]) -> Tasks:
        rows = list(tasks)
        sizes = [len(each.content) if isinstance(each.content, bytes) else PAGES for each in rows]
        return cls(
            as_keys(each.first for each in rows),
            np.array([each.length for each in rows], np.int64),
            np.array(sizes, np.int64),
            [each.content for each in rows],
        )

    @classmethod
    def join(cls, parts: Sequence[Tasks]) -> Tasks:
        return cls(
            np.concatenate([part.firsts for part in parts]),
            np.concatenate([part.counts for part in parts]),
            np.concatenate([part.value_sizes for part in parts]),
            list(chain.from_iterable(part.contents for part in parts)),
        )

    def part(self, first: int, end: int) -> Tasks:
        rows = slice(first, end)
        return Tasks(self.firsts[rows], self.counts[rows], self.value_sizes[rows], self.contents[rows])

    def __len__(self) -> int:
        return len(self.contents)

    def __iter__(self) -> Iterator[Task]:
        for row, (count, content) in enumerate(zip(self.counts.tolist(), self.contents, strict=True)):
            yield Task(key_of(self.firsts[row]), count, content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tasks) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class Job(NamedTuple):
    """Writes one layer, which covers the whole range, whatever keys it has."""

    keys: KeyRange
    tasks: Tasks


class Plan(NamedTuple):
    """Jobs in key order; their ranges cover all keys without a gap.

    sources: every object that the plan depends on, sorted by path.
    """

    jobs: tuple[Job, ...]
    pgdata_lsn: Lsn
    shard: ShardIdentity
    sources: tuple[BucketObject, ...]


def cut(sizes: Numbers, limit: int) -> Iterator[tuple[int, int]]:
    """Rows cut into parts, `(first, end)`, of as many rows as have at most `limit` together, or of one."""
    ends: list[int] = np.cumsum(sizes).tolist()
    first = before = 0
    while first < len(ends):
        end = max(bisect_right(ends, before + limit), first + 1)
        yield first, end
        first, before = end, ends[end - 1]
