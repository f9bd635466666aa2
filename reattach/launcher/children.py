"""The processes below the launcher: those it started and those that their death left to it."""

# pathlib would be a third of the time that this process needs to start.
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import os
import signal
import time

GRACE_SECONDS = 0.5


class Children:
    """Started processes have a number of their own, as a pid may come again."""

    def __init__(self) -> None:
        self._running: dict[int, int] = {}
        self._last_signals: dict[int, int] = {}
        self._ended: dict[int, int] = {}
        self._last = 0

    def add(self, pid: int, last_signal: int) -> int:
        """The number under which `returncode` knows the process. `end_all` sends it the signal."""
        self._last += 1
        if last_signal != signal.SIGKILL:
            self._last_signals[pid] = last_signal
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
            self._last_signals.pop(pid, None)
            number = self._running.pop(pid, None)
            if number is not None:
                self._ended[number] = os.waitstatus_to_exitcode(status)

    def returncode(self, number: int) -> int:
        """Of an ended process, once; `-N` if signal N ended it. Raises KeyError."""
        self.reap()
        return self._ended.pop(number)

    def end_all(self) -> None:
        """Ends all descendants and waits until they are gone.

        Those with a last signal of their own have `GRACE_SECONDS` to end by it; everything else is killed.
        """
        for pid, last_signal in self._last_signals.items():
            os.kill(pid, last_signal)
        # What a killed child leaves behind becomes ours, so that the next round finds it.
        deadline = time.monotonic() + GRACE_SECONDS
        while pids := _children_of(os.getpid()):
            spared = set(self._last_signals) if time.monotonic() < deadline else set()
            for pid in set(pids) - spared:
                os.kill(pid, signal.SIGKILL)
            for pid in set(pids) - spared:
                os.waitpid(pid, 0)
            if spared:
                self.reap()
                time.sleep(0.002)


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
