"""moto's backends behind the lean server, for everything that importers do not use.

moto takes more than a second to import and copies an object for each look at it, so it is loaded by the first
request that needs it, in a thread, and `Store` stays the truth:

* Before a request is given to moto, moto's buckets are made equal to the store's, as far as the request can
  see: its key (and what it copies), or for a request on a bucket all its keys. moto gets objects by reference
  and reads their bytes only if it must. What the two have in common is told by identity (`moto_key`), so that
  nothing is compared or copied twice.
* After it, objects that moto wrote or removed are written or removed in the store.
* What the store has no place for (tags, ACLs, versions, policies, ...) stays in moto. So an object that moto
  wrote or changed is read through moto from then on, and a bucket that moto configured is served by moto
  altogether: slower, but right.

Requests for other AWS services than S3 (such as KMS) are given to moto's backend for them.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote
from xml.parsers.expat import ExpatError

from reattach.api.bucket import Operation
from reattach.witness.s3 import xml_bodies
from reattach.witness.s3.blob import MemoryBlob
from reattach.witness.s3.policies import check_policy
from reattach.witness.s3.request import Request
from reattach.witness.s3.responses import Response, S3Error, bytes_response, malformed_xml
from reattach.witness.s3.store import Bucket, Checksum, MotoUpload, Store, StoredObject

log = logging.getLogger(__name__)

_READS = frozenset({Operation.GET_OBJECT, Operation.HEAD_OBJECT})
_OF_UPLOADS = frozenset(
    {
        Operation.UPLOAD_PART,
        Operation.UPLOAD_PART_COPY,
        Operation.COMPLETE_MULTIPART_UPLOAD,
        Operation.ABORT_MULTIPART_UPLOAD,
        Operation.LIST_PARTS,
    }
)
_MAX_DOCUMENT = 8 << 20
_OBJECT_DOCUMENTS = frozenset({"acl", "tagging", "retention", "legal-hold", "restore", "select"})
_NOT_UNDERSTOOD = (
    ExpatError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    RecursionError,
    AssertionError,
)
"""What moto raises for a request that it takes for another one."""

_SERVICE = re.compile(r"Credential=[^/]+/[^/]+/[^/]+/([a-z0-9-]+)/")
# Describe the transfer, which is over when moto gets the body.
_TRANSFER_HEADERS = frozenset(
    {"transfer-encoding", "x-amz-trailer", "x-amz-decoded-content-length", "expect"}
)


class MotoBridge:
    """Carries out requests by moto, one at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = asyncio.Lock()
        self._moto: Any = None

    def wants(self, request: Request) -> bool:
        """Whether only moto can answer."""
        if request.wants_moto:
            return True
        bucket = self._store.buckets.get(request.bucket)
        if request.operation is Operation.CREATE_BUCKET:
            return request.body is not None or (bucket is not None and bucket.moto_answers)
        if bucket is None:
            return False
        if bucket.moto_answers:
            return True
        if request.operation in _READS:
            obj = bucket.objects.get(request.key)
            return obj is not None and obj.moto_answers
        if request.operation in _OF_UPLOADS:
            return request.query["uploadId"] in bucket.moto_uploads
        return request.operation is Operation.COPY_OBJECT and self._copies_from_moto(request)

    def _copies_from_moto(self, request: Request) -> bool:
        if "?" in request.headers["x-amz-copy-source"]:
            return True
        name, key = _copy_source(request)
        bucket = self._store.buckets.get(name)
        obj = bucket.objects.get(key) if bucket is not None else None
        return bucket is not None and (bucket.moto_answers or (obj is not None and obj.moto_answers))

    async def answer(self, request: Request) -> Response:
        """Raises S3Error."""
        _check(request)
        loop = asyncio.get_running_loop()
        async with self._lock:
            if self._moto is None:
                log.info("loading moto for %s %s", request.method, request.path)
                self._moto = await loop.run_in_executor(
                    None, importlib.import_module, "reattach.witness.s3.moto_store"
                )
            scope = self._scope(request)
            self._show(scope)
            try:
                status, headers, body = await loop.run_in_executor(None, self._call, request)
            finally:
                self._take_over(request, scope)
            bucket = self._store.buckets.get(request.bucket)
            if bucket is not None and status < 300 and _configures(request):
                bucket.moto_answers = True
        return _response(request, status, headers, body)

    def forget(self) -> None:
        """The store was emptied."""
        if self._moto is not None:
            self._moto.reset()

    def _scope(self, request: Request) -> dict[str, set[str]]:
        """The keys that the request can see, by bucket."""
        scope: dict[str, set[str]] = {}
        bucket = self._store.buckets.get(request.bucket)
        if bucket is not None:
            scope[bucket.name] = {request.key} if request.key else set(bucket.keys)
        if "x-amz-copy-source" in request.headers:
            name, key = _copy_source(request)
            if name in self._store.buckets:
                scope.setdefault(name, set()).add(key)
        return scope

    def _show(self, scope: dict[str, set[str]]) -> None:
        theirs = self._moto.backend()
        for name in [name for name in theirs.buckets if name not in self._store.buckets]:
            self._moto.remove_bucket(name)
        for bucket in self._store.buckets.values():
            if bucket.name not in theirs.buckets:
                theirs.create_bucket(bucket.name, bucket.region)
        for name, keys in scope.items():
            bucket, their_keys = self._store.buckets[name], theirs.buckets[name].keys
            for key in keys | {key for key in dict.keys(their_keys) if key not in bucket.objects}:
                obj = bucket.objects.get(key)
                shown = their_keys.get(key)
                if obj is None:
                    if shown is not None and not self._moto.is_delete_marker(shown):
                        self._moto.remove_key(name, key)
                elif obj.moto_key is None or obj.moto_key is not shown:
                    obj.moto_key = self._moto.show_object(name, key, obj)

    def _call(self, request: Request) -> tuple[int, dict[str, Any], bytes | str]:
        match = _SERVICE.search(request.headers.get("authorization", ""))
        service = match[1] if match is not None else "s3"
        headers = {name: value for name, value in request.headers.items() if name not in _TRANSFER_HEADERS}
        if headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
            headers["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD"
        headers.update(request.trailers)
        body = b""
        if request.body is not None:
            body = request.body.open(0, request.body.size).read()
        headers["content-length"] = str(len(body))
        try:
            return self._moto.call(service, request.method, request.target, headers, body)  # type: ignore[no-any-return]
        except (self._moto.Unknown, NotImplementedError) as e:
            raise S3Error(501, "NotImplemented", str(e)) from e
        except _NOT_UNDERSTOOD as e:
            log.info("moto does not understand %s %s: %r", request.method, request.target, e)
            raise _not_understood(request, e) from e
        except Exception as e:
            status = getattr(e, "code", None)
            if isinstance(status, int) and 400 <= status < 500:
                raise S3Error(status, type(e).__name__, str(e)) from e  # an HTTP error that nobody caught
            log.exception("moto failed on %s %s", request.method, request.path)
            raise S3Error(500, "InternalError", f"moto failed: {type(e).__name__}: {e}") from e

    def _take_over(self, request: Request, scope: dict[str, set[str]]) -> None:
        theirs = self._moto.backend()
        for name in [name for name in self._store.buckets if name not in theirs.buckets]:
            del self._store.buckets[name]
        for name, their_bucket in theirs.buckets.items():
            if name not in self._store.buckets:
                self._store.create_bucket(name, their_bucket.region_name)
        bucket = self._store.buckets.get(request.bucket)
        if bucket is None:
            return
        their_bucket = theirs.buckets[bucket.name]
        keys: Iterable[str] = (
            {request.key}
            if request.key
            else scope.get(bucket.name, set()) | set(dict.keys(their_bucket.keys))
        )
        for key in keys:
            self._take_over_key(bucket, key, their_bucket.keys.get(key), request)
        bucket.moto_uploads = {
            number: bucket.moto_uploads.get(number) or MotoUpload(number, upload.key_name)
            for number, upload in their_bucket.multiparts.items()
        }
        self._moto.forget_garbage()

    def _take_over_key(self, bucket: Bucket, key: str, theirs: Any, request: Request) -> None:
        ours = bucket.objects.get(key)
        if theirs is None or self._moto.is_delete_marker(theirs):
            if ours is not None and ours.moto_key is not None:
                bucket.delete(key)
            return
        if ours is not None and ours.moto_key is theirs:
            if key == request.key and request.method in ("PUT", "POST", "DELETE"):
                ours.moto_answers = True
            return
        if ours is not None and ours.moto_key is None and request.key != key:
            return  # written while moto was at work
        checksum = None
        if theirs.checksum_algorithm and theirs.checksum_value:
            checksum = Checksum(theirs.checksum_algorithm, theirs.checksum_value, theirs.checksum_type)
        obj = StoredObject(
            MemoryBlob(theirs.value),
            theirs.etag.strip('"'),
            {name.lower(): value for name, value in theirs.metadata.items()},
            checksum=checksum,
            modified=theirs.last_modified.timestamp(),
        )
        obj.storage_class = theirs.storage_class or "STANDARD"
        obj.moto_key = theirs
        obj.moto_answers = True
        bucket.put(key, obj)


def _check(request: Request) -> None:
    """Refuses what moto would take, and fail of it later or answer wrongly. Raises S3Error."""
    if request.operation in _READS and "partNumber" in request.query:
        raise S3Error(501, "NotImplemented", "Parts of this object cannot be read alone")
    is_document = not request.key or bool(_OBJECT_DOCUMENTS & request.query.keys())
    if request.method not in ("PUT", "POST") or request.body is None or not request.query or not is_document:
        return
    if request.body.size > _MAX_DOCUMENT:
        raise malformed_xml()
    raw = request.body.open(0, request.body.size).read()
    if "policy" in request.query:
        check_policy(raw)
    elif xml_bodies.has_doctype(raw):
        raise malformed_xml()


def _not_understood(request: Request, error: Exception) -> S3Error:
    """moto fails of documents, parameters and headers that are not as it expects them."""
    if request.query and request.body is not None and request.body.size:
        return malformed_xml()
    return S3Error(400, "InvalidRequest", f"The request is not valid: {type(error).__name__}: {error}")


def _configures(request: Request) -> bool:
    """Whether it is a write on a bucket about its settings, or one that creates it with settings."""
    if request.method not in ("PUT", "POST", "DELETE") or request.key:
        return False
    return (bool(request.query) and "delete" not in request.query) or any(
        name.startswith(("x-amz-bucket-object-lock", "x-amz-acl", "x-amz-object-ownership"))
        for name in request.headers
    )


def _copy_source(request: Request) -> tuple[str, str]:
    path = unquote(request.headers["x-amz-copy-source"].partition("?")[0]).removeprefix("/")
    bucket, _, key = path.partition("/")
    return bucket, key


def _response(request: Request, status: int, headers: dict[str, Any], body: bytes | str) -> Response:
    raw = body.encode() if isinstance(body, str) else body
    kept = [
        (name, str(value))
        for name, value in headers.items()
        if name.lower() not in ("content-length", "date", "server", "connection", "content-type")
    ]
    lower = {name.lower(): str(value) for name, value in headers.items()}
    response = bytes_response(status, raw, lower.get("content-type", "application/xml"), kept)
    if request.method == "HEAD":
        length = int(lower.get("content-length", len(raw)))
        return Response(status, response.headers, length=length)
    if status in (204, 304):
        return Response(status, kept, length=None)
    return response
