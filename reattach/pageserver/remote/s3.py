"""An S3 bucket as remote storage."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from reattach.pageserver.blocking import run_blocking
from reattach.pageserver.config.remote_storage import S3Config
from reattach.pageserver.remote.settled import settled
from reattach.pageserver.remote.storage import ObjectInfo, ObjectNotFound, RemoteError, RemoteRefused
from reattach.runtime.aws import explicit_endpoint, is_plain, require_credentials

MIB = 1024 * 1024

# An upload holds PART_BYTES x PARTS_AT_A_TIME in memory, so these bound the process (I12).
UPLOADS_AT_A_TIME = 4
PARTS_AT_A_TIME = 2
PART_BYTES = 8 * MIB
_READ_BYTES = 4 * MIB
_DELETE_BATCH = 1000


class S3Storage:
    """Objects of one bucket, addressed path-style when there is an endpoint.

    Credentials and whatever the configuration leaves open come from the AWS environment. Raises
    MissingCredentials without any.
    """

    def __init__(self, config: S3Config) -> None:
        require_credentials(os.environ)
        self._prefix = f"{config.prefix_in_bucket}/" if config.prefix_in_bucket else ""
        where: dict[str, Any] = {"aws_region": config.bucket_region}
        if config.endpoint is not None:
            where |= explicit_endpoint(config.endpoint)
        self._store = S3Store(
            config.bucket_name,
            config=where,  # type: ignore[arg-type]
            client_options={
                "allow_http": True,
                "allow_invalid_certificates": is_plain(config.endpoint),
                "timeout": timedelta(seconds=config.timeout),
            },
            # Retrying is ours: what obstore repeats by itself, nobody sees.
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=config.timeout)},
        )
        self._requests = asyncio.Semaphore(config.concurrency_limit)
        self._uploads = asyncio.Semaphore(UPLOADS_AT_A_TIME)

    async def get(self, path: str) -> bytes:
        async with self._request(path):
            result = await obstore.get_async(self._store, self._prefix + path)
            data = bytes(await result.bytes_async())
            if len(data) != result.meta["size"]:
                raise RemoteError(f"{path}: got {len(data)} of {result.meta['size']} bytes")
            return data

    async def head(self, path: str) -> ObjectInfo:
        async with self._request(path):
            return self._info(await obstore.head_async(self._store, self._prefix + path))

    async def put(self, path: str, data: bytes) -> None:
        async with self._request(path):
            await settled(
                path, obstore.put_async(self._store, self._prefix + path, data, use_multipart=False)
            )

    async def upload_file(self, source: Path, path: str) -> None:
        size = source.stat().st_size
        async with self._uploads, self._request(path):
            await settled(
                path,
                obstore.put_async(
                    self._store,
                    self._prefix + path,
                    source,
                    use_multipart=size > PART_BYTES,
                    chunk_size=PART_BYTES,
                    max_concurrency=PARTS_AT_A_TIME,
                ),
            )

    async def download_file(self, path: str, target: Path) -> int:
        with target.open("wb", buffering=0) as file:
            try:
                async with self._request(path):
                    result = await obstore.get_async(self._store, self._prefix + path)
                    async for chunk in result.stream(min_chunk_size=_READ_BYTES):
                        await run_blocking(file.write, chunk)
                    if file.tell() != result.meta["size"]:
                        raise RemoteError(f"{path}: got {file.tell()} of {result.meta['size']} bytes")
                    return file.tell()
            except BaseException:
                target.unlink(missing_ok=True)
                raise

    async def list_objects(self, prefix: str, *, after: str | None = None) -> list[ObjectInfo]:
        offset = None if after is None else self._prefix + after
        async with self._request(prefix):
            listing = obstore.list(self._store, self._prefix + prefix, offset=offset, chunk_size=1000)
            found = [self._info(meta) async for batch in listing for meta in batch]
            return sorted(found, key=lambda info: info.path)

    async def list_beginning(self, text: str) -> list[ObjectInfo]:
        found: list[ObjectInfo] = []
        directory = self._prefix + text.rpartition("/")[0]
        async with self._request(text):
            # A store's prefixes end at a slash. But keys come in order, so those wanted are the first ones.
            listing = obstore.list(self._store, directory, offset=self._prefix + text, chunk_size=1000)
            async for batch in listing:
                wanted = [info for info in map(self._info, batch) if info.path.startswith(text)]
                found += wanted
                if len(wanted) < len(batch):
                    break
        return found

    async def list_children(self, prefix: str) -> list[ObjectInfo]:
        async with self._request(prefix):
            listing = await obstore.list_with_delimiter_async(self._store, self._prefix + prefix)
            return sorted((self._info(meta) for meta in listing["objects"]), key=lambda info: info.path)

    async def list_directories(self, prefix: str) -> list[str]:
        async with self._request(prefix):
            listing = await obstore.list_with_delimiter_async(self._store, self._prefix + prefix)
            return sorted(str(path).rstrip("/").rpartition("/")[2] for path in listing["common_prefixes"])

    async def delete(self, paths: Sequence[str]) -> None:
        for start in range(0, len(paths), _DELETE_BATCH):
            batch = [self._prefix + path for path in paths[start : start + _DELETE_BATCH]]
            try:
                async with self._request(batch[0]):
                    await settled(batch[0], obstore.delete_async(self._store, batch))
            except ObjectNotFound:
                continue

    @asynccontextmanager
    async def _request(self, path: str) -> AsyncIterator[None]:
        async with self._requests:
            try:
                yield
            except (FileNotFoundError, NotFoundError) as e:
                raise ObjectNotFound(path) from e
            except (PermissionDeniedError, UnauthenticatedError) as e:
                raise RemoteRefused(f"{path}: {_one_line(e)}") from e
            except BaseError as e:
                raise RemoteError(f"{path}: {_one_line(e)}") from e

    def _info(self, meta: obstore.ObjectMeta) -> ObjectInfo:
        return ObjectInfo(meta["path"].removeprefix(self._prefix), meta["size"], meta["last_modified"])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split("\n\nDebug source:")[0].split())
