"""A directory as remote storage."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from reattach.pageserver.blocking import run_blocking
from reattach.pageserver.files import TEMP_SUFFIX, copy_file, temp_name
from reattach.pageserver.remote.storage import ObjectInfo, ObjectNotFound, RemoteError, RemoteRefused

T = TypeVar("T")


class LocalStorage:
    """Objects are files below `root`, written under a temporary name first. Empty directories are removed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def get(self, path: str) -> bytes:
        return await _attempt(path, (self._root / path).read_bytes)

    async def head(self, path: str) -> ObjectInfo:
        return _info(path, await _attempt(path, (self._root / path).stat))

    async def put(self, path: str, data: bytes) -> None:
        await _attempt(path, lambda: self._write(path, lambda temp: temp.write_bytes(data)))

    async def upload_file(self, source: Path, path: str) -> None:
        source.stat()  # a missing source is no failure of the storage
        await _attempt(path, lambda: self._write(path, lambda temp: copy_file(source, temp)))

    async def download_file(self, path: str, target: Path) -> int:
        origin = self._root / path

        def copy() -> int:
            if not origin.exists():
                raise ObjectNotFound(path)
            try:
                return copy_file(origin, target)
            except BaseException:
                target.unlink(missing_ok=True)
                raise

        return await run_blocking(copy)

    async def list_objects(self, prefix: str, *, after: str | None = None) -> list[ObjectInfo]:
        def walk() -> list[ObjectInfo]:
            found = (_info(path, stat) for path, stat in _files(self._root / prefix, prefix))
            return sorted((o for o in found if after is None or o.path > after), key=lambda o: o.path)

        return await _attempt(prefix, walk)

    async def list_beginning(self, text: str) -> list[ObjectInfo]:
        parent, _, beginning = text.rpartition("/")
        directory = self._root / parent

        def walk() -> list[ObjectInfo]:
            found = [
                _info(path, stat)
                for path, stat in _files(directory, parent, lambda name: name.startswith(beginning))
                if path != text
            ]
            return sorted(found, key=lambda info: info.path)

        return await _attempt(text, walk)

    async def list_children(self, prefix: str) -> list[ObjectInfo]:
        directory = self._root / prefix

        def scan() -> list[ObjectInfo]:
            files = (path for path in directory.iterdir() if path.is_file()) if directory.is_dir() else ()
            names = sorted(path.name for path in files if not path.name.endswith(TEMP_SUFFIX))
            return [_info(f"{prefix}/{name}", (directory / name).stat()) for name in names]

        return await _attempt(prefix, scan)

    async def list_directories(self, prefix: str) -> list[str]:
        directory = self._root / prefix

        def scan() -> list[str]:
            if not directory.is_dir():
                return []
            return sorted(
                entry.name
                for entry in directory.iterdir()
                if entry.is_dir() and next(_files(entry, entry.name), None) is not None
            )

        return await _attempt(prefix, scan)

    async def delete(self, paths: Sequence[str]) -> None:
        def remove() -> None:
            for path in paths:
                (self._root / path).unlink(missing_ok=True)
            for directory in {(self._root / path).parent for path in paths}:
                self._remove_empty(directory)

        await _attempt(", ".join(paths[:3]), remove)

    def _write(self, path: str, fill: Callable[[Path], object]) -> None:
        target = self._root / path
        temp = target.with_name(temp_name(target.name))
        for _ in range(10):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                fill(temp)
                temp.replace(target)
                return
            except FileNotFoundError:
                continue  # a deletion removed the directory, which was empty for a moment
            except BaseException:
                temp.unlink(missing_ok=True)
                raise
        raise RemoteError(f"the directory of {path} keeps vanishing")

    def _remove_empty(self, directory: Path) -> None:
        with contextlib.suppress(OSError):
            while directory != self._root:
                directory.rmdir()
                directory = directory.parent


async def _attempt(path: str, work: Callable[[], T]) -> T:
    try:
        return await run_blocking(work)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as e:
        raise ObjectNotFound(path) from e
    except PermissionError as e:
        raise RemoteRefused(f"{path}: {e}") from e
    except OSError as e:
        raise RemoteError(f"{path}: {e}") from e


def _info(path: str, stat: os.stat_result) -> ObjectInfo:
    return ObjectInfo(path, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))


def _files(
    directory: Path, prefix: str, wanted: Callable[[str], bool] = lambda _: True
) -> Iterator[tuple[str, os.stat_result]]:
    """Every finished file below, with its path below the root. `wanted`: of the names right here."""
    try:
        entries = [entry for entry in os.scandir(directory) if wanted(entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        path = f"{prefix}/{entry.name}" if prefix else entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path), path)
        elif not entry.name.endswith(TEMP_SUFFIX):
            with contextlib.suppress(FileNotFoundError):
                yield path, entry.stat()
