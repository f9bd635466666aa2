"""An import bucket in S3, or in what speaks its protocol."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import BaseError, InvalidPathError
from obstore.store import S3Store

from reattach.api.location import AwsS3
from reattach.pageserver.import_pgdata.bucket import (
    RangeRead,
    Refusal,
    TransientFailure,
    retried,
)
from reattach.pageserver.import_pgdata.bucket_object import BucketObject
from reattach.pageserver.import_pgdata.config import ImportConfig
from reattach.pageserver.import_pgdata.errors import ImportFailed, ObjectChanged, ObjectError, ObjectMissing
from reattach.pageserver.import_pgdata.tasks import cpu_threads, in_thread, run_all
from reattach.pageserver.layers.blobs import Buffer
from reattach.runtime.aws import MissingCredentials, explicit_endpoint, is_plain, require_credentials
from reattach.runtime.per_loop import per_loop

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta

T = TypeVar("T")

CONCURRENT_REQUESTS = 128
REQUEST_TIMEOUT = timedelta(seconds=120)
_LIST_CHUNK = 1000

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_INVALID_KEY = re.compile(r'path: (".*"),$', re.MULTILINE)
_BUCKET_NAME = re.compile(r"[A-Za-z0-9._-]{3,255}")
_REGION = re.compile(r"[A-Za-z0-9-]+")
_REDIRECTED = "Received redirect without LOCATION"
_BAD_LISTING = "Got invalid list response"
_RANGE_IGNORED = "non-partial response when range requested"
_RETRIED_STATUSES = (408, 429)
_GONE_STATUSES = (412, 416)
_TRANSIENT_CODES = ("RequestTimeout", "SlowDown")


@per_loop
def requests_at_a_time() -> asyncio.Semaphore:
    """For all imports of the process: each request is an open file."""
    return asyncio.Semaphore(CONCURRENT_REQUESTS)


@lru_cache(maxsize=16)  # shards and resumes of one import share connections; a client takes 20 ms to make
def _open_store(place: AwsS3, endpoint: str | None, stall_timeout: float) -> S3Store:
    where: dict[str, Any] = {"aws_region": place.region}
    if endpoint is not None:
        where |= explicit_endpoint(endpoint)
    return S3Store(
        place.bucket,
        config=where,  # type: ignore[arg-type]
        prefix=place.key.strip("/") or None,
        client_options={
            "allow_http": is_plain(endpoint),
            "allow_invalid_certificates": is_plain(endpoint),
            "timeout": REQUEST_TIMEOUT,
            "read_timeout": timedelta(seconds=stall_timeout),
        },
        # Retries are ours: they must be logged, bounded where hopeless, and not hide faults.
        retry_config={"max_retries": 0},
    )


class S3Bucket:
    """Objects below a key prefix. Credentials come from the AWS environment; without any: ImportFailed."""

    def __init__(self, place: AwsS3, config: ImportConfig, on_bytes: Callable[[int], None]) -> None:
        try:
            require_credentials(os.environ)
        except MissingCredentials as e:
            raise ImportFailed(f"s3://{place.bucket}/{place.key}: {e}") from None
        if not _BUCKET_NAME.fullmatch(place.bucket) or not _REGION.fullmatch(place.region):
            raise ImportFailed(f"no bucket can be called {place.bucket!r} in a region {place.region!r}")
        self._place = place
        self._on_bytes = on_bytes
        self._requests = requests_at_a_time()
        try:
            self._store = _open_store(place, config.aws_endpoint_url, config.stall_timeout)
        except BaseError as e:
            raise ImportFailed(f"s3://{place.bucket}/{place.key}: {_reason(str(e))}") from None

    async def list_tree(self, prefix: str) -> list[BucketObject]:
        found: list[BucketObject] = []

        async def attempt() -> None:
            # An attempt goes on where the one before it failed.
            offset = found[-1].path if found else None
            try:
                stream = obstore.list(self._store, prefix=prefix, offset=offset, chunk_size=_LIST_CHUNK)
                async for chunk in stream:
                    found.extend(_describe(meta["path"], meta) for meta in chunk)
            except BaseError as e:
                raise self._translate(prefix, e) from e

        async with self._requests:
            await retried(prefix, attempt)
        return found

    async def list_directory(self, directory: str) -> list[BucketObject]:
        async def attempt() -> list[BucketObject]:
            try:
                listing = await obstore.list_with_delimiter_async(self._store, prefix=directory)
            except BaseError as e:
                raise self._translate(directory, e) from e
            return [_describe(meta["path"], meta) for meta in listing["objects"]]

        async with self._requests:
            return await retried(directory, attempt)

    async def read_object(self, path: str) -> bytes:
        async def attempt() -> bytes:
            buffer, _ = await self._get(path, {})
            return bytes(buffer)

        async with self._requests:
            return await retried(path, attempt)

    async def read_listed(self, source: BucketObject) -> bytes:
        return bytes(await self._read(source, {}, source.size))

    async def map_ranges(self, reads: Sequence[RangeRead], work: Callable[[Buffer], T]) -> T:
        buffers = await run_all([self._read_range(read) for read in reads])
        return await in_thread(
            cpu_threads(), lambda: work(buffers[0] if len(buffers) == 1 else b"".join(buffers))
        )

    async def _read_range(self, read: RangeRead) -> Buffer:
        return await self._read(read.source, {"range": (read.start, read.end)}, read.end - read.start)

    async def _read(self, source: BucketObject, options: GetOptions, wanted: int) -> Buffer:
        if source.version.startswith(('"', "W/")):
            options["if_match"] = source.version

        async def attempt() -> Buffer:
            buffer, found = await self._get(source.path, options)
            # A store may not know If-Match.
            if found.version != source.version:
                raise ObjectChanged(
                    source.path, f"changed after it was listed ({source.version}, now {found.version})"
                )
            if len(buffer) != wanted:
                raise TransientFailure(f"got {len(buffer)} of {wanted} bytes")
            return buffer

        async with self._requests:
            return await retried(source.path, attempt)

    async def _get(self, path: str, options: GetOptions) -> tuple[memoryview, BucketObject]:
        try:
            answer = await obstore.get_async(self._store, path, options=options)
            buffer = memoryview(await answer.buffer_async())
        except (BaseError, OSError) as e:
            raise self._translate(path, e) from e
        self._on_bytes(len(buffer))
        return buffer, _describe(path, answer.meta)

    def _translate(self, path: str, error: Exception) -> Exception:
        """What an error of the client library means for the import."""
        text = str(error)
        reason = _reason(text)
        code = _CODE.search(text)
        if code and code[1] == "NoSuchBucket":
            return Refusal(f"there is no bucket {self._place.bucket}")
        if isinstance(error, FileNotFoundError):
            return ObjectMissing(path)
        if isinstance(error, InvalidPathError):
            key = _INVALID_KEY.search(text)
            named = key[1] if key else reason
            return ObjectError(path, f"there is an object whose key no file could have: {named}")
        where = f"bucket {self._place.bucket} in region {self._place.region}: {reason}"
        match = _STATUS.search(text)
        if match is None:
            if any(sign in text for sign in (_RANGE_IGNORED, _BAD_LISTING, _REDIRECTED)):
                return Refusal(where)
            return TransientFailure(reason)
        status = int(match[1])
        if status >= 500 or status in _RETRIED_STATUSES or (code and code[1] in _TRANSIENT_CODES):
            return TransientFailure(reason)
        if status in _GONE_STATUSES:
            return ObjectChanged(path, f"changed after it was listed ({code[1] if code else status})")
        return Refusal(where)


def _describe(path: str, meta: ObjectMeta) -> BucketObject:
    return BucketObject(path, meta["size"], meta["e_tag"] or meta["last_modified"].isoformat())


def _reason(text: str) -> str:
    return " ".join(text.partition("\n\nDebug source:")[0].split())[:300]
