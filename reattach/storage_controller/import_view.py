"""An import as people want to see it."""

from __future__ import annotations

from reattach.api.controller import ImportPhase, ShardImportInfo, TimelineImportInfo
from reattach.api.ids import ShardIndex
from reattach.api.import_status import Done, InProgress, ShardImportStatus
from reattach.storage_controller.core import import_state
from reattach.storage_controller.db.imports import ImportRow


def describe(row: ImportRow, waiting_for: str | None) -> TimelineImportInfo:
    """`waiting_for`: what keeps the import from going on, if that is known."""
    shards = [_shard(index, status, row) for index, status in sorted(row.statuses.items())]
    return TimelineImportInfo(
        tenant_id=row.tenant,
        timeline_id=row.timeline,
        phase=_phase(row),
        waiting_for=waiting_for,
        percent=round(sum(s.percent for s in shards) / len(shards), 1) if shards else 0.0,
        created_at=row.created_at,
        last_change=max((s.last_change for s in shards), default=row.created_at),
        error=row.error if row.finished else import_state.error_text(row.statuses),
        shards=shards,
    )


def _phase(row: ImportRow) -> ImportPhase:
    if row.finished:
        return ImportPhase.FINISHED
    if row.is_complete:
        return ImportPhase.FINALIZING
    return ImportPhase.CREATING if row.needs_creation else ImportPhase.IMPORTING


def _shard(index: ShardIndex, status: ShardImportStatus, row: ImportRow) -> ShardImportInfo:
    jobs = row.jobs(index)
    completed: int | None
    match status:
        case InProgress(progress=progress):
            completed = 0 if progress is None else progress.completed
        case Done():
            completed = jobs
        case _:
            completed = None
    return ShardImportInfo(
        shard=index,
        status=status,
        jobs=jobs,
        completed=completed,
        percent=import_state.percent(status),
        last_change=row.changed_at(index),
    )
