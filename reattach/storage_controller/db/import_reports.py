"""Recording what pageservers report of their imports: many reports, one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from reattach.api import codec
from reattach.api.controller_points import Write
from reattach.api.ids import ShardIndex, TenantId, TenantShardId, TimelineId
from reattach.api.import_status import InProgress, ShardImportStatus
from reattach.api.upcall import PutImportStatusRequest
from reattach.storage_controller.core import import_state
from reattach.storage_controller.core.import_state import Transition
from reattach.storage_controller.db import imports
from reattach.storage_controller.db.database import Cursor, Database
from reattach.storage_controller.db.imports import (
    ImportKey,
    StaleGeneration,
    UnknownImport,
    UnknownTenantShard,
)
from reattach.storage_controller.db.rows import BadRow, row_of

T = TypeVar("T")

Refusal = StaleGeneration | UnknownTenantShard | UnknownImport | BadRow


@dataclass(frozen=True, slots=True)
class Reported:
    """What became of a report. `complete`: every shard of the import has ended."""

    transition: Transition
    complete: bool


@dataclass(slots=True)
class _Record:
    """An import's columns, and the shards of which something changes."""

    statuses: dict[ShardIndex, ShardImportStatus]
    history: imports.ShardHistory
    changed: set[ShardIndex]

    def store(self, index: ShardIndex, before: ShardImportStatus, after: ShardImportStatus) -> None:
        self.statuses[index] = after
        self.history[str(index)] = imports.ShardKnown(imports.now_rfc3339(), _jobs(after) or _jobs(before))
        self.changed.add(index)

    @property
    def is_complete(self) -> bool:
        return import_state.is_complete(self.statuses)


def _jobs(status: ShardImportStatus) -> int | None:
    return status.progress.jobs if isinstance(status, InProgress) and status.progress else None


async def record(db: Database, reports: Sequence[PutImportStatusRequest]) -> list[Reported | Refusal]:
    """Records, in order, each status whose generation is current and that may follow the recorded one.

    Checks and writes are one transaction (I4), in which no other generation can be issued to these shards.
    """

    async def body(cursor: Cursor) -> list[Reported | Refusal]:
        generations = await _lock_generations(cursor, {r.tenant_shard_id for r in reports})
        keys = {(r.tenant_shard_id.tenant_id, r.timeline_id) for r in reports}
        records = await _read(cursor, keys)
        finished = await _read_finished(cursor, keys - records.keys())
        outcomes = [_apply(report, generations, records, finished) for report in reports]
        await _write(cursor, {k: r for k, r in records.items() if isinstance(r, _Record) and r.changed})
        return outcomes

    return await db.write(Write.UPDATE_IMPORT, body)


def _apply(
    report: PutImportStatusRequest,
    generations: dict[TenantShardId, int | None],
    records: dict[ImportKey, _Record | BadRow],
    finished: dict[ImportKey, dict[ShardIndex, ShardImportStatus] | BadRow],
) -> Reported | Refusal:
    shard, timeline = report.tenant_shard_id, report.timeline_id
    if shard not in generations:
        return UnknownTenantShard(f"{shard} shard not found")
    if generations[shard] != report.generation:
        return StaleGeneration()
    key = (shard.tenant_id, timeline)
    row, ended_before = records.get(key), finished.get(key)
    # It concerns this import alone: the other reports of the batch are recorded.
    if isinstance(row, BadRow):
        return row
    if isinstance(ended_before, BadRow):
        return ended_before
    try:
        recorded = imports.recorded_status(
            shard, timeline, None if row is None else row.statuses, ended_before, missing="Import"
        )
    except UnknownImport as e:
        return e
    outcome = import_state.transition(recorded, report.status)
    if row is not None and outcome is Transition.STORE:
        row.store(shard.shard_index, recorded, report.status)
    ended = report.status.is_terminal and outcome in (Transition.STORE, Transition.UNCHANGED)
    return Reported(outcome, complete=ended and row is not None and row.is_complete)


async def _lock_generations(cursor: Cursor, shards: set[TenantShardId]) -> dict[TenantShardId, int | None]:
    """The generations of the known ones; they cannot change before the transaction ends."""
    await cursor.execute(
        """
        SELECT s.tenant_id, s.shard_number, s.shard_count, s.generation
        FROM unnest(%s::varchar[], %s::int[], %s::int[]) AS asked (tenant_id, shard_number, shard_count)
        JOIN tenant_shards s USING (tenant_id, shard_number, shard_count)
        ORDER BY 1, 2, 3 FOR SHARE OF s
        """,
        [
            [str(shard.tenant_id) for shard in shards],
            [shard.shard_number for shard in shards],
            [shard.shard_count for shard in shards],
        ],
    )
    return {
        TenantShardId(TenantId(row.tenant_id), row.shard_number, row.shard_count): row.generation
        for row in await cursor.fetchall()
    }


def _columns(keys: set[ImportKey] | dict[ImportKey, _Record]) -> list[list[str]]:
    return [[str(tenant) for tenant, _ in keys], [str(timeline) for _, timeline in keys]]


async def _read(cursor: Cursor, keys: set[ImportKey]) -> dict[ImportKey, _Record | BadRow]:
    await cursor.execute(
        """
        SELECT tenant_id, timeline_id, shard_statuses, shard_history
        FROM unnest(%s::varchar[], %s::varchar[]) AS asked (tenant_id, timeline_id)
        JOIN timeline_imports USING (tenant_id, timeline_id)
        """,
        _columns(keys),
    )

    def parse(row: Any) -> _Record:
        return _Record(imports.statuses_of(row.shard_statuses), imports.history_of(row.shard_history), set())

    return _by_key("timeline_imports", await cursor.fetchall(), parse)


async def _read_finished(
    cursor: Cursor, keys: set[ImportKey]
) -> dict[ImportKey, dict[ShardIndex, ShardImportStatus] | BadRow]:
    if not keys:
        return {}
    await cursor.execute(
        """
        SELECT tenant_id, timeline_id, shard_statuses
        FROM unnest(%s::varchar[], %s::varchar[]) AS asked (tenant_id, timeline_id)
        JOIN finished_imports USING (tenant_id, timeline_id)
        """,
        _columns(keys),
    )
    rows = await cursor.fetchall()
    return _by_key("finished_imports", rows, lambda row: imports.statuses_of(row.shard_statuses))


def _by_key(table: str, rows: Sequence[Any], parse: Callable[[Any], T]) -> dict[ImportKey, T | BadRow]:
    found: dict[ImportKey, T | BadRow] = {}
    for row in rows:
        key = TenantId(row.tenant_id), TimelineId(row.timeline_id)
        try:
            with row_of(table, imports.key_text(row)):
                found[key] = parse(row)
        except BadRow as e:
            found[key] = e
    return found


def _json(values: Sequence[object]) -> list[str]:
    return [codec.encode(value).decode() for value in values]


async def _write(cursor: Cursor, changed: dict[ImportKey, _Record]) -> None:
    if not changed:
        return

    statuses = [{str(i): r.statuses[i] for i in sorted(r.changed)} for r in changed.values()]
    history = [{str(i): r.history[str(i)] for i in sorted(r.changed)} for r in changed.values()]
    await cursor.execute(
        """
        UPDATE timeline_imports i SET
            shard_statuses = i.shard_statuses || c.statuses, shard_history = i.shard_history || c.history
        FROM unnest(%s::varchar[], %s::varchar[], %s::jsonb[], %s::jsonb[])
            AS c (tenant_id, timeline_id, statuses, history)
        WHERE i.tenant_id = c.tenant_id AND i.timeline_id = c.timeline_id
        """,
        [*_columns(changed), _json(statuses), _json(history)],
    )
