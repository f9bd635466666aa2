"""Why an import ends without success. The text of each goes to the control plane as it is."""

from __future__ import annotations


class ImportFailed(Exception):
    """The import can never succeed; the text says which object is to blame and why."""


class ImportInterrupted(Exception):
    """The timeline or the process goes away. Nothing is reported; the next attach resumes."""


class PlanMismatch(ImportFailed):
    """The bucket, the shard or the planner is not what the recorded progress was made with."""


class RewriteInSameGeneration(ImportFailed):
    """A job met a layer of its own generation: two imports write the same timeline."""

    def __init__(self, local_path: object) -> None:
        super().__init__(f"Import attempted to rewrite layer file in the same generation: {local_path}")


class LayersLost(ImportFailed):
    """Remote storage does not have what a checkpoint covers."""


class ObjectError(ImportFailed):
    """An object of the bucket is missing or is not what it must be."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class ObjectMissing(ObjectError):
    """The bucket has no such object."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "No file found for the remote object id given")


class ObjectChanged(ObjectError):
    """The object is not what it was when the import began."""
