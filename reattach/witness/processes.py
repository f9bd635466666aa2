"""The processes under test, and the signals that a step sends them."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass

from reattach.api.plan import Verb

DEATH_SECONDS = 10.0

SIGNALS = {
    Verb.KILL: signal.SIGKILL,
    Verb.TERMINATE: signal.SIGTERM,
    Verb.PAUSE: signal.SIGSTOP,
    Verb.CONTINUE: signal.SIGCONT,
}


class NotRunning(Exception):
    """The process that was to get a signal does not run."""


@dataclass(slots=True)
class Tracked:
    """A process by its name. pid is None while it does not run; incarnation counts its starts.

    starting: its next start was announced, and is counted already. handle: a descriptor of it, readable once
    it has ended. killed: a step has ended it, or is about to.
    """

    pid: int | None = None
    incarnation: int = 0
    starting: bool = False
    handle: int = -1
    killed: bool = False


class Processes:
    """All of a world. `on_end` is called once for each that has ended, with its return code if that is
    known.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_end: Callable[[str, int, int | None], None]
    ) -> None:
        self._loop = loop
        self._on_end = on_end
        self._known: dict[str, Tracked] = {}

    @property
    def running(self) -> tuple[str, ...]:
        return tuple(name for name, one in self._known.items() if one.pid is not None)

    @property
    def killed(self) -> tuple[str, ...]:
        return tuple(name for name, one in self._known.items() if one.killed)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._known)

    def incarnation(self, name: str) -> int:
        """0 if it was never started."""
        one = self._known.get(name)
        return 0 if one is None else one.incarnation

    def starting(self, name: str) -> None:
        """It is about to start: who connects under its name from now on is of that start.

        A process may have sent something before anybody knows its pid.
        """
        one = self._known.setdefault(name, Tracked())
        if one.pid is not None:
            self.ended(name, None)
        one.incarnation += 1
        one.starting = True

    def started(self, name: str, pid: int) -> int:
        """Returns its incarnation."""
        one = self._known.setdefault(name, Tracked())
        if not one.starting:
            self.starting(name)
        one.starting = False
        one.pid = pid
        one.killed = False
        try:
            one.handle = os.pidfd_open(pid)
        except ProcessLookupError:
            # It has ended already, which is for the next turn, after its start has been written.
            self._loop.call_soon(self.ended, name, None)
        else:
            self._loop.add_reader(one.handle, self.ended, name, None)
        return one.incarnation

    def ended(self, name: str, code: int | None) -> bool:
        """Returns whether it was news."""
        one = self._known.get(name)
        if one is None or one.pid is None:
            return False
        one.pid = None
        self._forget(one)
        self._on_end(name, one.incarnation, code)
        return True

    def close(self) -> None:
        """Watches no process any more."""
        for one in self._known.values():
            self._forget(one)

    def _forget(self, one: Tracked) -> None:
        if one.handle >= 0:
            self._loop.remove_reader(one.handle)
            os.close(one.handle)
            one.handle = -1

    def send(self, name: str, verb: Verb) -> None:
        """Sends the signal to the process's group; a killed one is dead when this returns.

        Raises NotRunning, and TimeoutError if the kernel does not let it go.
        """
        one = self._known.get(name)
        if one is None or one.pid is None:
            raise NotRunning(f"{name} does not run")
        pid, number = one.pid, SIGNALS[verb]
        poll = select.poll()
        poll.register(one.handle, select.POLLIN)
        # The handle's process is never another with the same number.
        if one.handle < 0 or poll.poll(0):
            self.ended(name, None)
            raise NotRunning(f"{name} (pid {pid}) has ended")
        one.killed |= verb in (Verb.KILL, Verb.TERMINATE)
        _signal_group(pid, number)
        if verb is Verb.KILL:
            if not poll.poll(DEATH_SECONDS * 1000):
                raise TimeoutError(f"{name} (pid {pid}) is not dead {DEATH_SECONDS:g} s after SIGKILL")
            self.ended(name, -number)


def _signal_group(pid: int, number: signal.Signals) -> None:
    # The launcher makes each process the leader of a group; what somebody else has started may be in ours.
    if os.getpgid(pid) == pid:
        os.killpg(pid, number)
    else:
        os.kill(pid, number)
