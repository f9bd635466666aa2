"""Buckets, objects and unfinished multipart uploads."""

from __future__ import annotations

import hashlib
import secrets
import time
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache

from reattach.witness.s3.blob import Blob

MAX_KEY_BYTES = 1024
DEFAULT_CONTENT_TYPE = "binary/octet-stream"


class Checksum:
    """An object's checksum: algorithm in upper case, base64 value, and COMPOSITE for one over the parts'."""

    __slots__ = ("algorithm", "kind", "value")

    def __init__(self, algorithm: str, value: str, kind: str | None = None) -> None:
        self.algorithm = algorithm
        self.value = value
        self.kind = kind


class StoredObject:
    """One object as it was written; a later write makes a new one.

    `headers` are those that a GET gives back (Content-Type, x-amz-meta-...). `modified` is Unix time.
    `moto_key` is moto's form of the object once moto has seen it, and `moto_answers` says that moto knows
    more of it than is kept here (tags, an ACL, ...), so that moto must answer its GET and HEAD. `part_sizes`
    are those of a multipart upload's parts, empty for an object that was written at once.
    """

    __slots__ = (
        "_head",
        "_listing",
        "blob",
        "checksum",
        "etag",
        "headers",
        "modified",
        "moto_answers",
        "moto_key",
        "part_sizes",
        "storage_class",
        "upload_id",
    )

    def __init__(
        self,
        blob: Blob,
        etag: str,
        headers: Mapping[str, str],
        *,
        checksum: Checksum | None = None,
        upload_id: str | None = None,
        modified: float | None = None,
    ) -> None:
        self.blob = blob
        self.etag = etag
        self.headers = headers
        self.checksum = checksum
        self.upload_id = upload_id
        self.modified = time.time() if modified is None else modified
        self.storage_class = "STANDARD"
        self.part_sizes: tuple[int, ...] = ()
        self.moto_key: object | None = None
        self.moto_answers = False
        self._listing: str | None = None
        self._head: bytes | None = None

    @property
    def last_modified(self) -> str:
        return _http_date(int(self.modified))

    @property
    def head(self) -> bytes:
        """The header lines of a GET that are the same for each."""
        if self._head is None:
            self._head = self._render_head()
        return self._head

    @property
    def modified_iso(self) -> str:
        return iso_time(self.modified)

    def _render_head(self) -> bytes:
        lines = [
            f'ETag: "{self.etag}"\r\nLast-Modified: {self.last_modified}\r\nAccept-Ranges: bytes\r\n',
            f"Content-Type: {self.headers.get('content-type', DEFAULT_CONTENT_TYPE)}\r\n",
        ]
        lines += [f"{name}: {value}\r\n" for name, value in self.headers.items() if name != "content-type"]
        if self.checksum is not None:
            lines.append(f"x-amz-sdk-checksum-algorithm: {self.checksum.algorithm}\r\n")
        return "".join(lines).encode("latin-1")

    @property
    def listing_xml(self) -> str:
        """What a listing says of the object, after its key."""
        if self._listing is None:
            algorithm = (
                f"<ChecksumAlgorithm>{self.checksum.algorithm}</ChecksumAlgorithm>" if self.checksum else ""
            )
            self._listing = (
                f"<LastModified>{self.modified_iso}</LastModified><ETag>&quot;{self.etag}&quot;</ETag>"
                f"{algorithm}<Size>{self.blob.size}</Size><StorageClass>{self.storage_class}</StorageClass>"
            )
        return self._listing


def iso_time(seconds: float) -> str:
    return _iso_time(int(seconds))


@lru_cache(maxsize=1024)
def _iso_time(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


@lru_cache(maxsize=1024)
def _http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


class Part:
    """A part of an unfinished upload."""

    __slots__ = ("blob", "checksum", "etag", "modified")

    def __init__(self, blob: Blob, etag: str, checksum: Checksum | None) -> None:
        self.blob = blob
        self.etag = etag
        self.checksum = checksum
        self.modified = time.time()


class Upload:
    """An unfinished multipart upload."""

    __slots__ = ("checksum_algorithm", "checksum_type", "headers", "id", "key", "parts", "started")

    def __init__(
        self, key: str, headers: Mapping[str, str], checksum_algorithm: str | None, checksum_type: str | None
    ) -> None:
        self.id = secrets.token_urlsafe(40)
        self.key = key
        self.headers = headers
        self.checksum_algorithm = checksum_algorithm
        self.checksum_type = checksum_type
        self.parts: dict[int, Part] = {}
        self.started = time.time()


@dataclass(slots=True)
class MotoUpload:
    """An unfinished multipart upload that moto carries out."""

    id: str
    key: str
    started: float = field(default_factory=time.time)


class Bucket:
    """Objects by key. `keys` is sorted, as code points and so as UTF-8 too."""

    __slots__ = ("created", "keys", "moto_answers", "moto_uploads", "name", "objects", "region", "uploads")

    def __init__(self, name: str, region: str) -> None:
        self.name = name
        self.region = region
        self.created = time.time()
        self.objects: dict[str, StoredObject] = {}
        self.keys: list[str] = []
        self.uploads: dict[str, Upload] = {}
        self.moto_answers = False
        self.moto_uploads: dict[str, MotoUpload] = {}

    def put(self, key: str, obj: StoredObject) -> None:
        if key not in self.objects:
            insort(self.keys, key)
        self.objects[key] = obj

    def put_many(self, objects: Iterable[tuple[str, StoredObject]]) -> None:
        self.objects.update(objects)
        self.keys = sorted(self.objects)

    def delete(self, key: str) -> None:
        if self.objects.pop(key, None) is not None:
            del self.keys[bisect_left(self.keys, key)]


class Store:
    """All buckets."""

    def __init__(self) -> None:
        self.buckets: dict[str, Bucket] = {}

    def create_bucket(self, name: str, region: str) -> Bucket:
        bucket = self.buckets[name] = Bucket(name, region)
        return bucket


def surrogate_etag(path: str, size: int, mtime_ns: int) -> str:
    """An ETag that stands for content without reading it, in the form of a multipart upload's."""
    digest = hashlib.md5(
        f"{path}\0{size}\0{mtime_ns}".encode(errors="surrogateescape"), usedforsecurity=False
    )
    return f"{digest.hexdigest()}-1"
