"""Local files: written whole or not at all, copied without passing through this process."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import shutil
from pathlib import Path

TEMP_SUFFIX = ".___temp"
"""Ends the names of files and directories that a start may remove."""

_counter = itertools.count()
_NOT_SUPPORTED = frozenset({errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM})
_COPY_CHUNK = 1 << 30


def temp_name(name: str) -> str:
    """A name for the unfinished version of `name` that no one else uses, in this process or another."""
    return f"{name}.{os.getpid():x}-{next(_counter):x}{TEMP_SUFFIX}"


def write_atomically(path: Path, data: bytes, *, sync: bool) -> None:
    """Replaces the file's content. After a crash it has the old or the new one. Raises OSError.

    sync: also after a power failure.
    """
    temp = path.with_name(temp_name(path.name))
    try:
        with temp.open("wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        temp.replace(path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    if sync:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def copy_file(source: Path, target: Path) -> int:
    """Copies inside the kernel where it can. Returns the bytes copied. Raises OSError."""
    with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        copied = 0
        try:
            while step := os.copy_file_range(reader.fileno(), writer.fileno(), _COPY_CHUNK):
                copied += step
        except OSError as e:
            if e.errno not in _NOT_SUPPORTED:
                raise
            reader.seek(copied)
            writer.seek(copied)
            shutil.copyfileobj(reader, writer, 1 << 20)
            copied = writer.tell()
        return copied


def move_aside(directory: Path) -> Path | None:
    """Renames a directory to a temporary name and returns that; None if there is no such directory.

    Whoever still knows the old path can neither read nor write what it held.
    """
    aside = directory.with_name(f"{directory.name}.{secrets.token_hex(4)}{TEMP_SUFFIX}")
    try:
        directory.rename(aside)
    except FileNotFoundError:
        return None
    return aside


def remove_tree(directory: Path) -> None:
    """Removes a directory and what is in it; not there is fine. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)
