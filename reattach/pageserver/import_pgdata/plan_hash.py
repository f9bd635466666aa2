"""The hash by which a resumed import recognises its plan."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import numpy as np
import xxhash

from reattach.api.lsn import Lsn
from reattach.api.shard import ShardIdentity
from reattach.pageserver.import_pgdata.plan import PAGES, Job, Plan, Tasks
from reattach.pageserver.layers.key_arrays import advanced

_SEED = 42
_SINGLE_KEY, _REL_BLOCKS, _SLRU_BLOCKS = range(3)
_COMPONENT, _COMPONENT_END = (4).to_bytes(8, "little"), b"\xff"
_NEXT_COMPONENT = _COMPONENT_END + _COMPONENT

_U64 = struct.Struct("<Q")
_KEY = struct.Struct("<BIIIBI")
_LITTLE_ENDIAN = [0, 4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 13, 17, 16, 15, 14]
"""Where the bytes of a key come from when its numbers are written as `_KEY` does."""

_BLOCKS_SIZE = 8 + 2 * _KEY.size
_SINGLE_SIZE = 8 + _KEY.size + _U64.size


def plan_hash(plan: Plan) -> int:
    """XXH64 of everything that decides what the jobs write, except for the contents of objects."""
    return hash_jobs(plan.jobs, plan.pgdata_lsn, plan.shard)


def hash_jobs(jobs: Iterable[Job], pgdata_lsn: Lsn, shard: ShardIdentity) -> int:
    return xxhash.xxh64_intdigest(b"".join(_feed(tuple(jobs), pgdata_lsn, shard)), _SEED)


def _feed(jobs: tuple[Job, ...], pgdata_lsn: Lsn, shard: ShardIdentity) -> Iterator[bytes]:
    yield _U64.pack(len(jobs))
    for job in jobs:
        yield _KEY.pack(*job.keys.start) + _KEY.pack(*job.keys.end) + _U64.pack(len(job.tasks))
        yield _task_feed(job.tasks)
        yield _U64.pack(pgdata_lsn.lsn_int)
    yield bytes((shard.number, shard.count))


def _task_feed(tasks: Tasks) -> bytes:
    """For each task, of a value: kind, key, length. Of pages: kind, first key, end key, path."""
    is_value = tasks.value_sizes != PAGES
    table = np.zeros((len(tasks), _BLOCKS_SIZE), np.uint8)
    table[:, 0] = np.where(
        is_value, _SINGLE_KEY, np.where(tasks.firsts[:, 0] == 0, _REL_BLOCKS, _SLRU_BLOCKS)
    )
    table[:, 8 : 8 + _KEY.size] = tasks.firsts[:, _LITTLE_ENDIAN]
    table[:, 8 + _KEY.size :] = advanced(tasks.firsts, tasks.counts)[:, _LITTLE_ENDIAN]
    lengths = tasks.value_sizes[is_value].astype("<u8").view(np.uint8).reshape(-1, _U64.size)
    table[is_value, 8 + _KEY.size : _SINGLE_SIZE] = lengths
    rows: list[bytes] = table.view(f"V{_BLOCKS_SIZE}").reshape(-1).tolist()
    return b"".join(
        [
            row[:_SINGLE_SIZE]
            if isinstance(content, bytes)
            else row + _COMPONENT + content.path.encode().replace(b"/", _NEXT_COMPONENT) + _COMPONENT_END
            for row, content in zip(rows, tasks.contents, strict=True)
        ]
    )
