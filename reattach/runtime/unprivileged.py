"""Giving up root for programs that refuse it, such as PostgreSQL.

`python -m reattach.runtime.unprivileged PROGRAM [ARGUMENT]...` drops, then becomes the program.

The user keeps one capability: to pass through directories and read files that only root may. A checkout in
root's home, or an interpreter there, would otherwise be out of reach for the very binaries that must not run
as root. PostgreSQL's programs ask `access(2)` whether they can run each other; the kernel considers the
capability there only if it is told not to adjust capabilities to the user (`SECBIT_NO_SETUID_FIXUP`).
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys
from functools import cache

_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_SECBIT_KEEP_CAPS = 1 << 4
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def user() -> tuple[int, int]:
    """(uid, gid) of the user that privileged runs drop to: `nobody`."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return 65534, 65534
    return entry.pw_uid, entry.pw_gid


def drop_privileges() -> None:
    """Makes this process, if it is root's, one of the unprivileged user. Raises OSError.

    Clears the signal that a process gets at its parent's death: set that afterwards.
    """
    if os.geteuid() != 0:
        return
    uid, gid = user()
    libc = _libc()
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    if libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP | _SECBIT_KEEP_CAPS, 0, 0, 0) != 0:
        # A container may forbid it. What only root reaches is then out of reach, as a program's message says.
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setresuid(uid, uid, uid)
    _keep_path_search(libc)


def _keep_path_search(libc: ctypes.CDLL) -> None:
    """Shrinks what is permitted to passing through directories. In a container that lacks it: to nothing."""
    header = _Header(_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)()
    libc.capget(ctypes.byref(header), ctypes.byref(data))
    permitted = data[0].permitted
    wanted = next((c for c in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE) if permitted & (1 << c)), None)
    mask = 0 if wanted is None else 1 << wanted
    data[0] = _Data(mask, mask, mask)
    data[1] = _Data(0, 0, 0)
    if libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        raise OSError(ctypes.get_errno(), "cannot give up root's capabilities")
    if wanted is not None:
        # Ambient capabilities are the ones that survive an exec. Where a policy forbids them, the files may
        # still be reachable; if not, the program's own message names the path.
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, wanted, 0, 0)


if __name__ == "__main__":
    drop_privileges()
    os.execvp(sys.argv[1], sys.argv[1:])
