"""How a shard's import may change, and what an import's shards say together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum, auto

from reattach.api import codec
from reattach.api.ids import ShardIndex
from reattach.api.import_status import Done, Error, InProgress, ShardImportProgress, ShardImportStatus

ShardStatuses = Mapping[ShardIndex, ShardImportStatus]


class Transition(Enum):
    """What becomes of a reported status."""

    STORE = auto()
    UNCHANGED = auto()
    """It says what is recorded already."""
    OUTDATED = auto()
    """It is of the same plan but says less than what is recorded, which stays."""
    REJECT_TERMINAL = auto()
    """The recorded status has ended and never changes (I6)."""
    REJECT_PLAN = auto()
    """It is of another plan than the recorded one (I3)."""
    REJECT_MALFORMED = auto()
    """It counts more completed jobs than there are."""


def initial(shards: Iterable[ShardIndex]) -> dict[ShardIndex, ShardImportStatus]:
    return {shard: InProgress(None) for shard in shards}


def transition(recorded: ShardImportStatus, reported: ShardImportStatus) -> Transition:
    """Forward only (I3), and nothing after the end (I6)."""
    if recorded == reported:
        return Transition.UNCHANGED
    if recorded.is_terminal:
        return Transition.REJECT_TERMINAL
    if not isinstance(reported, InProgress) or reported.progress is None:
        return Transition.STORE if reported.is_terminal else Transition.OUTDATED
    if not 0 <= reported.progress.completed <= reported.progress.jobs:
        return Transition.REJECT_MALFORMED
    before = recorded.progress if isinstance(recorded, InProgress) else None
    if before is None:
        return Transition.STORE
    if _plan(before) != _plan(reported.progress):
        return Transition.REJECT_PLAN
    return Transition.STORE if reported.progress.completed > before.completed else Transition.OUTDATED


def _plan(progress: ShardImportProgress) -> tuple[int, int, int]:
    return progress.jobs, progress.import_plan_hash, progress.job_soft_size_limit


def is_complete(statuses: ShardStatuses) -> bool:
    return all(status.is_terminal for status in statuses.values())


def error_text(statuses: ShardStatuses) -> str | None:
    """What the control plane is told of failed shards: a JSON object in a string. None if none failed."""
    errors = {
        str(shard): status.message for shard, status in sorted(statuses.items()) if isinstance(status, Error)
    }
    return codec.encode(errors).decode() if errors else None


def percent(status: ShardImportStatus) -> float:
    """How much of a shard's import is durable, 0 to 100."""
    match status:
        case Done():
            return 100.0
        case InProgress(progress=ShardImportProgress(jobs=jobs, completed=completed)):
            return round(100.0 * completed / jobs, 1) if jobs else 0.0
    return 0.0


def to_record(statuses: ShardStatuses) -> dict[str, object]:
    """The form that the database holds."""
    return {str(shard): status.to_json() for shard, status in sorted(statuses.items())}


def from_record(record: Mapping[str, object]) -> dict[ShardIndex, ShardImportStatus]:
    """Raises ValueError."""
    return {ShardIndex.parse(shard): ShardImportStatus.from_json(value) for shard, value in record.items()}
