"""What can go wrong in a job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class JobError(Exception):
    """Ends the job. Its text goes into the job's status object, its cause into the log."""


@contextmanager
def doing(what: str) -> Iterator[None]:
    """What fails inside is a JobError that says `what` was being done."""
    try:
        yield
    except Exception as e:
        raise JobError(what) from e
