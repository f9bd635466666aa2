"""One process per working directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class AlreadyRunning(Exception):
    """Another process holds the lock."""


def claim_pid_file(path: Path) -> int:
    """Locks the file, writes our process id into it and returns the descriptor, which keeps the lock.

    The file is never removed; the lock ends with the process. Raises AlreadyRunning and OSError.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        owner = os.read(fd, 32).decode("ascii", "replace").strip()
        os.close(fd)
        raise AlreadyRunning(f"{path} is locked by process {owner or '(unknown)'}") from e
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}".encode(), 0)
    return fd
