"""Writes a history as it happens: a line is with the kernel before what follows it may happen."""

from __future__ import annotations

import os
import time
from pathlib import Path

from reattach.api.history import HISTORY_VERSION, Begin, Line, encode_line


class Recorder:
    """One history's file. After an error of the disk nothing more is written, and `lost` says why."""

    def __init__(self, path: Path, world: str) -> None:
        """Raises OSError, FileExistsError among them: a history is never written over."""
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._began = time.monotonic()
        self.lost: str | None = None
        self.write(Begin(at=0.0, version=HISTORY_VERSION, time=time.time(), world=world))

    def now(self) -> float:
        """Seconds since the history began, to the microsecond."""
        return round(time.monotonic() - self._began, 6)

    def write(self, line: Line) -> None:
        if self.lost is not None:
            return
        text = encode_line(line)
        try:
            while text:
                text = text[os.write(self._fd, text) :]
        except OSError as e:
            self.lost = f"the history could not be written: {e.strerror}"

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self.lost = self.lost or "the history was closed"
