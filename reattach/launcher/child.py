"""What a fork does before it is the process that was asked for."""

# ruff: noqa: PTH123

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from reattach.runtime.unprivileged import drop_privileges

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

# arg_start and arg_end, counted from the field after the command's name.
_ARGUMENTS = slice(45, 47)

_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Orphaned descendants of this process become its children."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become the reaper of orphaned processes")


def signal_at_parents_end(sig: int) -> None:
    """Sent to this process when the thread that forked it ends, with its process or without."""
    _libc.prctl(_PR_SET_PDEATHSIG, sig, 0, 0, 0)


def settle(
    *,
    parent: int,
    cwd: str,
    environment: Mapping[str, str],
    streams: Sequence[int],
    unprivileged: bool,
) -> None:
    """Own session, user, streams, directory and environment; dies with its parent."""
    os.setsid()
    for target, fd in enumerate(streams):
        os.dup2(fd, target)
        os.close(fd)
    if unprivileged:
        drop_privileges()
    # After the change of user, which clears it.
    signal_at_parents_end(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)


def hold_signals() -> None:
    """Signals wait until `take_signals`: one that comes between the fork and then is for the child's own
    handlers."""
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())


def release_signals() -> None:
    """In the parent, after the fork."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def take_signals(interrupt: Any) -> None:
    """In the child: every signal has its default, SIGINT the one given, and those that came meanwhile
    arrive."""
    signal.set_wakeup_fd(-1)
    # A shell starts what it puts into the background with SIGQUIT ignored, and `nohup` with SIGHUP.
    for sig in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(sig, signal.SIG_DFL)
    signal.signal(signal.SIGINT, interrupt)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def become_python(argv: Sequence[str]) -> None:
    """Puts the interpreter into the state of a fresh one, as far as a fork does not do so itself."""
    _show_as(argv)
    gc.enable()
    time.tzset()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def _show_as(argv: Sequence[str]) -> None:
    """Makes `ps` show this command line, as much of it as fits into the place of the launcher's own."""
    name = argv[2] if argv[1:2] == ["-m"] else argv[0]
    _libc.prctl(_PR_SET_NAME, name.replace(".", "/").rpartition("/")[2].encode()[:15], 0, 0, 0)
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = (int(field) for field in fields[_ARGUMENTS])
    if end <= start:
        return  # the kernel does not tell a process that changed its user
    text = b"\0".join(part.encode() for part in argv)[: end - start - 1]
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, text, len(text))


def execute(argv: list[str]) -> NoReturn:
    """Becomes the program. Raises OSError."""
    # What Python ignores at start-up, a program expects at its default.
    for sig in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(sig, signal.SIG_DFL)
    take_signals(signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)
    except OSError as e:
        raise OSError(e.errno, e.strerror, argv[0]) from None


def give_up(error: BaseException) -> NoReturn:
    """Says on stderr why the process could not start, and ends it with 127."""
    if isinstance(error, OSError):
        text = f"cannot start: {error}\n"
    else:
        import traceback  # seldom needed

        text = "".join(traceback.format_exception(error))
    os.write(2, text.encode(errors="replace"))
    os._exit(127)
