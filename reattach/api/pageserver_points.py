"""The failpoints of the built-in pageserver. Another name is refused when it is set.

Those that end with `pausable` (and `in_progress_delete`, `persist_deleted_index_part`,
`timeline-creation-after-uninit`, `deletion-queue-before-execute-pause`) log `at failpoint <name>` when
somebody comes there; the others take `return`, for an error there or for a number of milliseconds to sleep.
"""

from __future__ import annotations

import re

POINTS: dict[str, str] = {
    "import-timeline-pre-execute-pausable": "the plan is made, no job was started",
    "import-task-complete-pausable": "a job's layer is in remote storage, the job is not taken yet",
    "import-timeline-pre-success-notify-pausable": "all is durable, Done was not told",
    "timeline-creation-after-uninit": "a timeline is being created, nothing of it is durable",
    "after-timeline-dir-creation": "the same, its directory was made",
    "before-upload-layer": "a layer is about to be uploaded",
    "before-upload-layer-pausable": "the same",
    "before-upload-index": "an index is about to be uploaded",
    "before-upload-index-pausable": "the same",
    "before-upload-manifest": "a tenant manifest is about to be uploaded",
    "before-upload-manifest-pausable": "the same",
    "before-delete-layer-pausable": "a layer is about to be deleted",
    "before-downloading-layer-stream-pausable": "a layer is about to be downloaded",
    "remote-storage-download-pre-rename": "a layer was downloaded and has no name yet",
    "storage-sync-list-remote-timelines": "an attach lists the timelines in remote storage",
    "before-attaching-tenant": "an attach begins",
    "attach-after-timeline-is-loaded-pausable": "an attach has loaded a timeline, nobody else knows it yet",
    "attach-before-activate-sleep": "an attached tenant is about to become active",
    "attach-before-activate": "the same",
    "tenant-config-before-write": "a tenant's location is about to be written to disk",
    "put-location-conf-handler": "a location was asked for",
    "timeline-delete-before-index-deleted-at": "a deletion was asked for, nothing was done",
    "persist_deleted_index_part": "the same, and imports and uploads have ended",
    "timeline-delete-before-schedule": "the index says deleted, nothing was removed",
    "in_progress_delete": "what is left of a deleted timeline is about to be removed",
    "timeline-delete-after-rm": "the local directory was removed",
    "timeline-delete-after-index-delete": "the index was removed from remote storage",
    "timeline-delete-before-index-delete": "everything but the index was removed from remote storage",
    "timeline-delete-before-rm": "the local directory is about to be removed",
    "deletion-queue-before-execute-pause": "a deletion list is about to be executed",
    "deletion-queue-before-execute": "the same",
    "control-plane-client-re-attach": "a re-attach is about to be asked for",
    "control-plane-client-validate-sleep": "generations are about to be validated",
    "gc_iteration_internal_after_getting_gc_timelines": "a garbage collection was asked for",
    "get-utilization-http-handler": "the utilization was asked for",
    "api-500": "any request",
    "api-503": "any request",
}
"""Each by name, with where it is."""

JOB_TAKEN = "import-job-{}-taken-pausable"
"""Of each job, from 1: it was taken and, if it ends with a checkpoint, that was acknowledged."""

PATTERN = re.compile(JOB_TAKEN.format(r"[1-9]\d*"))


def is_point(name: str) -> bool:
    """Whether the built-in pageserver has such a failpoint."""
    return name in POINTS or PATTERN.fullmatch(name) is not None
