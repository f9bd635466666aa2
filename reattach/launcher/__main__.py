"""`python -m reattach.launcher FD PID [ROOM]`."""

from __future__ import annotations

import atexit
import os
import socket
import sys

from reattach.launcher.server import Server


class _QuickEnd:
    """Ends a forked child when its exit handlers have run.

    What is left then is to take down all modules, object by object, in memory that it shares with its parent:
    30 ms for each process that a test stops.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        # The first that is registered is the last that is called.
        atexit.register(self._end)

    def _end(self) -> None:
        if self.code is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.code)


def main(arguments: list[str], end: _QuickEnd) -> int:
    # What follows is room for the children's own command lines.
    fd, client_pid = (int(argument) for argument in arguments[:2])
    # It was inherited on purpose, once; children must not hold it open.
    os.set_inheritable(fd, False)
    program = Server(socket.socket(fileno=fd), client_pid).serve()
    if program is None:
        return 0
    # Only a forked child gets a program. It runs here, with nothing of the server below it on the stack, so
    # that it ends like any Python process: exit code, traceback, exit handlers, flushed streams.
    try:
        end.code = program()
    except SystemExit as e:
        if isinstance(e.code, int):
            end.code = e.code
        raise
    return end.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], _QuickEnd()))
