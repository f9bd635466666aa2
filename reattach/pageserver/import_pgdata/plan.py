"""The plan of an import: which jobs write which keys from which objects."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from reattach.api.key import Key, KeyRange
from reattach.api.lsn import Lsn
from reattach.api.shard import ShardIdentity
from reattach.pageserver.import_pgdata.bucket_object import BucketObject


class SingleKey(NamedTuple):
    """Writes one value that the planner already knows."""

    key: Key
    value: bytes

    @property
    def keys(self) -> KeyRange:
        return KeyRange.single(self.key)


class RelBlocks(NamedTuple):
    """Writes those pages of a relation segment that the shard keeps."""

    keys: KeyRange
    source: BucketObject


class SlruBlocks(NamedTuple):
    """Writes the pages of an SLRU segment."""

    keys: KeyRange
    source: BucketObject


Task: TypeAlias = SingleKey | RelBlocks | SlruBlocks


class Job(NamedTuple):
    """Writes one layer, which covers the whole range, whatever keys it has."""

    keys: KeyRange
    tasks: tuple[Task, ...]


class Plan(NamedTuple):
    """Jobs in key order; their ranges cover all keys without a gap.

    sources: every object that the plan depends on, sorted by path.
    """

    jobs: tuple[Job, ...]
    pgdata_lsn: Lsn
    shard: ShardIdentity
    sources: tuple[BucketObject, ...]
