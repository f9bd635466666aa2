"""Recording what pageservers report of their imports: many reports, one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reattach.api import codec
from reattach.api.controller_points import Write
from reattach.api.ids import TenantId, TenantShardId, TimelineId
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

Refusal = StaleGeneration | UnknownTenantShard | UnknownImport


@dataclass(frozen=True, slots=True)
class Reported:
    """What became of a report. `complete`: every shard of the import has ended."""

    transition: Transition
    complete: bool


@dataclass(slots=True)
class _Record:
    """An import's columns, and what of them changes."""

    statuses: dict[str, Any]
    history: dict[str, Any]
    changed: set[str]

    def store(self, slug: str, before: ShardImportStatus, after: ShardImportStatus) -> None:
        self.statuses[slug] = after.to_json()
        self.history[slug] = {"changed_at": imports.now_rfc3339(), "jobs": _jobs(after) or _jobs(before)}
        self.changed.add(slug)

    @property
    def is_complete(self) -> bool:
        return import_state.is_complete(import_state.from_record(self.statuses))


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
        await _write(cursor, {key: record for key, record in records.items() if record.changed})
        return outcomes

    return await db.write(Write.UPDATE_IMPORT, body)


def _apply(
    report: PutImportStatusRequest,
    generations: dict[TenantShardId, int | None],
    records: dict[ImportKey, _Record],
    finished: dict[ImportKey, dict[str, Any]],
) -> Reported | Refusal:
    shard, timeline = report.tenant_shard_id, report.timeline_id
    if shard not in generations:
        return UnknownTenantShard(f"{shard} shard not found")
    if generations[shard] != report.generation:
        return StaleGeneration()
    key = (shard.tenant_id, timeline)
    row = records.get(key)
    try:
        recorded = imports.recorded_status(
            shard, timeline, None if row is None else row.statuses, finished.get(key), missing="Import"
        )
    except UnknownImport as e:
        return e
    outcome = import_state.transition(recorded, report.status)
    if row is not None and outcome is Transition.STORE:
        row.store(str(shard.shard_index), recorded, report.status)
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


async def _read(cursor: Cursor, keys: set[ImportKey]) -> dict[ImportKey, _Record]:
    await cursor.execute(
        """
        SELECT tenant_id, timeline_id, shard_statuses, shard_history
        FROM unnest(%s::varchar[], %s::varchar[]) AS asked (tenant_id, timeline_id)
        JOIN timeline_imports USING (tenant_id, timeline_id)
        """,
        _columns(keys),
    )
    return {
        (TenantId(row.tenant_id), TimelineId(row.timeline_id)): _Record(
            row.shard_statuses, row.shard_history, set()
        )
        for row in await cursor.fetchall()
    }


async def _read_finished(cursor: Cursor, keys: set[ImportKey]) -> dict[ImportKey, dict[str, Any]]:
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
    return {
        (TenantId(row.tenant_id), TimelineId(row.timeline_id)): row.shard_statuses
        for row in await cursor.fetchall()
    }


async def _write(cursor: Cursor, changed: dict[ImportKey, _Record]) -> None:
    if not changed:
        return

    def parts(column: str) -> list[str]:
        values = []
        for record in changed.values():
            source = getattr(record, column)
            values.append(codec.encode({slug: source[slug] for slug in sorted(record.changed)}).decode())
        return values

    await cursor.execute(
        """
        UPDATE timeline_imports i SET
            shard_statuses = i.shard_statuses || c.statuses, shard_history = i.shard_history || c.history
        FROM unnest(%s::varchar[], %s::varchar[], %s::jsonb[], %s::jsonb[])
            AS c (tenant_id, timeline_id, statuses, history)
        WHERE i.tenant_id = c.tenant_id AND i.timeline_id = c.timeline_id
        """,
        [*_columns(changed), parts("statuses"), parts("history")],
    )
