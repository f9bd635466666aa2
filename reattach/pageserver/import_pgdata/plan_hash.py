"""The hash by which a resumed import recognises its plan."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache

import xxhash

from reattach.api.lsn import Lsn
from reattach.api.shard import ShardIdentity
from reattach.pageserver.import_pgdata.plan import Job, Plan, SingleKey, SlruBlocks

_SEED = 42
_SINGLE_KEY, _REL_BLOCKS, _SLRU_BLOCKS = range(3)
_PATH_COMPONENT = (4).to_bytes(8, "little")

_U64 = struct.Struct("<Q")
_KEY = struct.Struct("<BIIIBI")
_SINGLE = struct.Struct("<qBIIIBIQ")
_BLOCKS = struct.Struct("<qBIIIBIBIIIBI")


def plan_hash(plan: Plan) -> int:
    """XXH64 of everything that decides what the jobs write, except for the contents of objects."""
    return hash_jobs(plan.jobs, plan.pgdata_lsn, plan.shard)


def hash_jobs(jobs: Iterable[Job], pgdata_lsn: Lsn, shard: ShardIdentity) -> int:
    return xxhash.xxh64_intdigest(b"".join(_feed(tuple(jobs), pgdata_lsn, shard)), _SEED)


def _feed(jobs: tuple[Job, ...], pgdata_lsn: Lsn, shard: ShardIdentity) -> Iterator[bytes]:
    yield _U64.pack(len(jobs))
    for job in jobs:
        yield _KEY.pack(*job.keys.start) + _KEY.pack(*job.keys.end) + _U64.pack(len(job.tasks))
        for task in job.tasks:
            if isinstance(task, SingleKey):
                yield _SINGLE.pack(_SINGLE_KEY, *task.key, len(task.value))
            else:
                kind = _SLRU_BLOCKS if isinstance(task, SlruBlocks) else _REL_BLOCKS
                yield _BLOCKS.pack(kind, *task.keys.start, *task.keys.end)
                directory, _, name = task.source.path.rpartition("/")
                yield _directory_feed(directory)
                yield _component_feed(name)
        yield _U64.pack(pgdata_lsn.lsn_int)
    yield bytes((shard.number, shard.count))


@lru_cache(maxsize=64)
def _directory_feed(directory: str) -> bytes:
    return b"".join(map(_component_feed, directory.split("/"))) if directory else b""


def _component_feed(component: str) -> bytes:
    return _PATH_COMPONENT + component.encode() + b"\xff"
