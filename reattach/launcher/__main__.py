"""`python -m reattach.launcher FD PID [ROOM]`."""

from __future__ import annotations

import os
import socket
import sys

from reattach.launcher.server import Server


def main(arguments: list[str]) -> int:
    # What follows is room for the children's own command lines.
    fd, client_pid = (int(argument) for argument in arguments[:2])
    # It was inherited on purpose, once; children must not hold it open.
    os.set_inheritable(fd, False)
    program = Server(socket.socket(fileno=fd), client_pid).serve()
    # Only a forked child gets a program. It runs here, with nothing of the server below it on the stack, so
    # that it ends like any Python process: exit code, traceback, exit handlers, flushed streams.
    return 0 if program is None else program()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
