"""The backup of a timeline of this pageserver."""

from __future__ import annotations

from reattach.api.lsn import Lsn
from reattach.pageserver.fullbackup.layer_source import LayerSource
from reattach.pageserver.fullbackup.stream import Backup, open_backup
from reattach.pageserver.timeline.timeline import Timeline
from reattach.runtime.errors import BadRequest


async def backup_timeline(timeline: Timeline, lsn: Lsn | None) -> Backup:
    """A backup at `lsn`, by default at the timeline's end. Raises BadRequest and BackupError."""
    first, last = timeline.metadata.latest_gc_cutoff_lsn, timeline.last_record_lsn
    if lsn is None:
        lsn = last
    elif not first <= lsn <= last:
        raise BadRequest(f"timeline {timeline} can be read from LSN {first} to {last}, not at {lsn}")
    return await open_backup(LayerSource(timeline, lsn))
