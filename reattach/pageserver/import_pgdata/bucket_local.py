"""An import bucket in a directory."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

from reattach.api.location import LocalFs
from reattach.pageserver.import_pgdata.bucket import RangeRead, Refusal, TransientFailure, retried
from reattach.pageserver.import_pgdata.bucket_object import BucketObject
from reattach.pageserver.import_pgdata.errors import ImportFailed, ObjectChanged, ObjectError, ObjectMissing
from reattach.pageserver.import_pgdata.tasks import cpu_threads, in_thread
from reattach.pageserver.layers.blobs import Buffer

T = TypeVar("T")

_MAX_DEPTH = 16

_MAY_PASS = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EINTR,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
"""Shortages. What else a file system refuses seldom changes by itself."""

_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""Without waiting for a writer, should it have become a pipe."""

_MANY_READS = 16
_many_reads = threading.Lock()
"""Held while many small files are read: each of their system calls lets go of the interpreter's lock, and two
threads that do so take turns at every call, which costs more than one of them needs for all."""


class LocalBucket:
    """Files below a root. A file's modification time and size stand for its content."""

    def __init__(self, place: LocalFs, on_bytes: Callable[[int], None]) -> None:
        self._root = Path(place.path)
        try:
            self._root.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise ImportFailed(f"{self._root}: {e.strerror}") from e
        self._prefix = f"{self._root}/"
        self._on_bytes = on_bytes

    async def list_tree(self, prefix: str) -> list[BucketObject]:
        def attempt() -> list[BucketObject]:
            found: list[BucketObject] = []
            if (self._root / prefix).is_dir():
                self._walk(prefix, 0, found)
            return found

        return await self._in_thread(prefix, attempt)

    async def list_directory(self, directory: str) -> list[BucketObject]:
        def attempt() -> list[BucketObject]:
            if not (self._root / directory).is_dir():
                return []
            with os.scandir(self._root / directory) as entries:
                paths = [(f"{directory}/{entry.name}", entry) for entry in entries]
                files = [_regular(path, entry) for path, entry in paths if not _is_directory(path, entry)]
            return [each for each in files if each is not None]

        return await self._in_thread(directory, attempt)

    async def read_object(self, path: str) -> bytes:
        def attempt() -> bytes:
            fd = self._open(path)
            try:
                found = _describe(path, os.fstat(fd))
                content = bytearray(found.size)
                _read_into(fd, RangeRead(found, 0, found.size), memoryview(content))
                return bytes(content)
            finally:
                os.close(fd)

        content = await self._in_thread(path, attempt)
        self._on_bytes(len(content))
        return content

    async def read_listed(self, source: BucketObject) -> bytes:
        return await self.map_ranges([RangeRead(source, 0, source.size)], bytes)

    async def map_ranges(self, reads: Sequence[RangeRead], work: Callable[[Buffer], T]) -> T:
        size = sum(read.end - read.start for read in reads)

        def attempt() -> T:
            # Reading into memory that this thread has used before costs half of what fresh memory does.
            buffer = _thread_buffer(size)
            position = 0
            with _many_reads if len(reads) >= _MANY_READS else nullcontext():
                for read in reads:
                    end = position + read.end - read.start
                    fd = self._open(read.source.path)
                    try:
                        _read_into(fd, read, buffer[position:end])
                    finally:
                        os.close(fd)
                    position = end
            return work(buffer)

        result = await self._in_thread(reads[0].source.path if reads else "", attempt)
        self._on_bytes(size)
        return result

    def _open(self, path: str) -> int:
        try:
            return os.open(f"{self._prefix}{path}", _OPEN_FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectMissing(path) from None

    def _walk(self, directory: str, depth: int, found: list[BucketObject]) -> None:
        if depth > _MAX_DEPTH:
            raise ObjectError(directory, "its directories nest too deep")
        with os.scandir(self._root / directory) as entries:
            for entry in entries:
                path = f"{directory}/{entry.name}"
                if _is_directory(path, entry):
                    self._walk(path, depth + 1, found)
                elif (file := _regular(path, entry)) is not None:
                    found.append(file)

    @staticmethod
    async def _in_thread(path: str, attempt: Callable[[], T]) -> T:
        def translated() -> T:
            try:
                return attempt()
            except OSError as e:
                passes = e.errno in _MAY_PASS
                raise (TransientFailure if passes else Refusal)(f"{type(e).__name__}: {e.strerror}") from e

        return await retried(path, lambda: in_thread(cpu_threads(), translated))


def _is_directory(path: str, entry: os.DirEntry[str]) -> bool:
    """Whether the entry is, or leads to, a directory. Raises ObjectError for a link that leads nowhere."""
    try:
        return entry.is_dir()
    except OSError as e:
        if e.errno != errno.ELOOP:
            raise
        raise ObjectError(path, "a symbolic link that leads to itself") from None


def _regular(path: str, entry: os.DirEntry[str]) -> BucketObject | None:
    """The file that an entry is, or leads to; None if it has gone. Raises ObjectError for other things."""
    try:
        found = entry.stat()
    except FileNotFoundError:
        if entry.is_symlink():
            raise ObjectError(path, "a symbolic link to nothing") from None
        # Removed since the directory was read; if it mattered, it will be missed.
        return None
    if stat.S_ISREG(found.st_mode):
        return _describe(path, found)
    if stat.S_ISSOCK(found.st_mode) and entry.name.startswith(".s.PGSQL."):
        return None
    raise ObjectError(path, f"{_kind(found.st_mode)}, not a file")


def _kind(mode: int) -> str:
    for is_kind, text in _KINDS:
        if is_kind(mode):
            return text
    return "a device"


_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a directory"),
)


def _describe(path: str, found: os.stat_result) -> BucketObject:
    return BucketObject(path, found.st_size, _version(found))


def _version(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns:x}-{found.st_size:x}"


def _read_into(fd: int, read: RangeRead, room: memoryview) -> None:
    """The range of an open file, which must be the listed one when all is read."""
    path, version = read.source.path, read.source.version
    done, size = 0, len(room)
    try:
        while done < size and (count := os.preadv(fd, [room[done:]], read.start + done)):
            done += count
    finally:
        # What is no file seldom can be read at a position, and this says it better.
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise ObjectError(path, f"{_kind(found.st_mode)}, not a file")
    if done < size or _version(found) != version:
        raise ObjectChanged(path, f"changed after it was listed ({version}, now {_version(found)})")


_local = threading.local()


def _thread_buffer(size: int) -> memoryview:
    """This thread's own memory of that size, whatever was in it."""
    buffer: bytearray = getattr(_local, "buffer", bytearray())
    if len(buffer) < size:
        buffer = _local.buffer = bytearray(size)
    return memoryview(buffer)[:size]
