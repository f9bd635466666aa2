"""The one module that imports moto: its backends, and our objects in their form."""

from __future__ import annotations

import importlib
import re
from typing import Any

from moto.core.request import Request
from moto.s3.models import FakeDeleteMarker, FakeKey, S3Backend, s3_backends
from moto.s3.responses import S3Response

from reattach.witness.s3.blob import Blob, chunks
from reattach.witness.s3.store import StoredObject

_ACCOUNT = "123456789012"
_PARTITION = "aws"

_VALUE: Any = FakeKey.value


class Unknown(Exception):
    """moto has no such service or path."""


class _ShownKey(FakeKey):
    """One of our objects; its bytes are read from our store whenever moto asks for them."""

    def __init__(self, name: str, blob: Blob, **settings: Any) -> None:
        self._blob: Blob | None = None
        super().__init__(name, b"", **settings)
        self._blob = blob
        self.contentsize = blob.size

    @property
    def value(self) -> bytes:
        if self._blob is None:
            return bytes(_VALUE.fget(self))
        return b"".join(chunks(self._blob))

    @value.setter
    def value(self, new_value: bytes) -> None:
        self._blob = None
        _VALUE.fset(self, new_value)

    def __deepcopy__(self, memo: dict[int, Any]) -> _ShownKey:
        # moto copies whole buckets to list versions; it changes attributes of the copies, not their bytes.
        copied = object.__new__(_ShownKey)
        copied.__dict__.update(self.__dict__)
        return copied


def backend() -> S3Backend:
    return s3_backends[_ACCOUNT][_PARTITION]


def is_delete_marker(key: object) -> bool:
    return isinstance(key, FakeDeleteMarker)


def show_object(bucket: str, name: str, obj: StoredObject) -> FakeKey:
    """Puts one of our objects into moto's bucket, as the newest version."""
    theirs = backend().buckets[bucket]
    remove_tags(theirs.keys.get(name))
    checksum = obj.checksum
    key = _ShownKey(
        name,
        obj.blob,
        account_id=_ACCOUNT,
        region_name=theirs.region_name,
        etag=obj.etag,
        is_versioned=theirs.is_versioned,
        version_id="null",
        bucket_name=bucket,
        checksum_value=checksum.value if checksum is not None else None,
        checksum_type=checksum.kind if checksum is not None else None,
    )
    key.checksum_algorithm = checksum.algorithm if checksum is not None else None
    key.last_modified = key.last_modified.fromtimestamp(obj.modified, tz=key.last_modified.tzinfo)
    key.set_metadata(dict(obj.headers))
    key.set_acl(theirs.acl)
    versions = theirs.keys.getlist(name, []) if theirs.is_versioned else []
    theirs.keys.setlist(name, [*versions, key])
    return key


def remove_key(bucket: str, name: str) -> None:
    """Takes every version of a key out of moto's bucket."""
    theirs = backend().buckets[bucket]
    remove_tags(theirs.keys.get(name))
    theirs.keys.pop(name)


def remove_tags(key: object) -> None:
    # Tags hang on the name, so that they would come back with the next object of that name.
    if isinstance(key, FakeKey):
        backend().tagger.delete_all_tags_for_resource(key.arn)


def remove_bucket(name: str) -> None:
    s3_backends.bucket_accounts.pop(name, None)
    backend().buckets.pop(name)


def reset() -> None:
    """Forgets everything of S3."""
    backend().reset()
    forget_garbage()


def forget_garbage() -> None:
    # moto keeps every key that was ever made in a list, with its buffer.
    tracked: tuple[Any, ...] = (FakeKey, _ShownKey)
    for class_ in tracked:
        class_.instances_tracked.clear()


def call(
    service: str, method: str, target: bytes, headers: dict[str, str], body: bytes
) -> tuple[int, dict[str, Any], bytes | str]:
    """Status, headers and body of moto's answer. Raises Unknown, and whatever moto raises."""
    text = target.decode("latin-1")
    path, _, query = text.partition("?")
    host = headers.get("host", "127.0.0.1")
    request = Request.from_primitives(method, f"http://{host}/?{query}", headers, body)
    request.environ["RAW_URI"] = path
    request.environ["PATH_INFO"] = path
    result = _handler(service, path)(request, request.raw_url, dict(request.headers))
    if isinstance(result, tuple):
        status, answered, content = result
        return int(status), answered, content
    return 200, {}, result


def _handler(service: str, path: str) -> Any:
    if service == "s3":
        return S3Response.key_dispatch if path[1:].partition("/")[2] else S3Response.bucket_dispatch
    try:
        patterns = importlib.import_module(f"moto.{service.replace('-', '')}.urls").url_paths
    except ImportError as e:
        raise Unknown(f"no service {service}: {e}") from e
    for pattern, handler in patterns.items():
        if re.match(pattern.replace("{0}", "", 1), path):
            return handler
    raise Unknown(f"{service} has nothing at {path}")
