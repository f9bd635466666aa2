"""The processes below the launcher: those it started and those that their death left to it."""

# pathlib would be a third of the time that this process needs to start.
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import os
import signal


class Children:
    """Started processes have a number of their own, as a pid may come again."""

    def __init__(self) -> None:
        self._running: dict[int, int] = {}
        self._ended: dict[int, int] = {}
        self._last = 0

    def add(self, pid: int) -> int:
        """The number under which `returncode` knows the process."""
        self._last += 1
        self._running[pid] = self._last
        return self._last

    def reap(self) -> None:
        """Takes note of everything that has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = self._running.pop(pid, None)
            if number is not None:
                self._ended[number] = os.waitstatus_to_exitcode(status)

    def returncode(self, number: int) -> int:
        """Of an ended process, once; `-N` if signal N ended it. Raises KeyError."""
        self.reap()
        return self._ended.pop(number)

    def kill_all(self) -> None:
        """Kills all descendants and waits until they are gone."""
        # What a killed child leaves behind becomes ours, so that the next round finds it.
        while pids := _children_of(os.getpid()):
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            for pid in pids:
                os.waitpid(pid, 0)


def _children_of(parent: int) -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _parent_of(name) == parent]


def _parent_of(pid: str) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return None
    # The command's name, in parentheses, may hold anything.
    return int(stat.rpartition(b")")[2].split()[1])
