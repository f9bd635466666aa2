"""MD5 and the checksums that clients send and ask for."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from reattach.witness.s3.blob import Blob, chunks
from reattach.witness.s3.request import Request
from reattach.witness.s3.responses import S3Error, invalid_argument
from reattach.witness.s3.store import Checksum

CHECKSUM_ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")
_HEADERS = {algorithm: f"x-amz-checksum-{algorithm.lower()}" for algorithm in CHECKSUM_ALGORITHMS}


@dataclass(frozen=True, slots=True)
class Digests:
    """`md5` in hex; `checksums` by algorithm in base64, as many as were asked for and can be computed."""

    md5: str
    checksums: Mapping[str, str]


class _Hasher(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes | memoryview) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


class _Crc32c:
    def __init__(self) -> None:
        import google_crc32c  # most processes never need it

        self._extend: Callable[[int, bytes], int] = google_crc32c.extend
        self._value = 0

    def update(self, data: bytes | memoryview) -> None:
        self._value = self._extend(self._value, bytes(data))

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


_COMPUTED: dict[str, Callable[[], _Hasher]] = {
    "CRC32": _Crc32,
    "CRC32C": _Crc32c,
    "SHA1": lambda: hashlib.sha1(usedforsecurity=False),
    "SHA256": hashlib.sha256,
}


def digest(blob: Blob, algorithms: Iterable[str]) -> Digests:
    """Reads the blob once. CRC64NVME has no implementation here and is left out."""
    md5 = hashlib.md5(usedforsecurity=False)
    others = {name: _COMPUTED[name]() for name in algorithms if name in _COMPUTED}
    for chunk in chunks(blob):
        md5.update(chunk)
        for other in others.values():
            other.update(chunk)
    return Digests(md5.hexdigest(), {name: _base64(other.digest()) for name, other in others.items()})


def composite(algorithm: str, parts: Iterable[Checksum | None]) -> str | None:
    """The checksum of the parts' checksums, None if one is missing or the algorithm cannot be computed."""
    if algorithm not in _COMPUTED:
        return None
    hasher, count = _COMPUTED[algorithm](), 0
    for part in parts:
        if part is None or part.algorithm != algorithm:
            return None
        hasher.update(base64.b64decode(part.value))
        count += 1
    return f"{_base64(hasher.digest())}-{count}"


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def wanted(request: Request) -> tuple[str | None, str | None]:
    """The checksum algorithm that an upload names and the value that it gives, in header or trailer."""
    for algorithm, name in _HEADERS.items():
        value = request.headers.get(name) or request.trailers.get(name)
        if value:
            return algorithm, value
    algorithm = request.headers.get("x-amz-sdk-checksum-algorithm", "").upper()
    if not algorithm:
        return None, None
    if algorithm not in CHECKSUM_ALGORITHMS:
        raise invalid_argument("Checksum algorithm provided is unsupported.")
    return algorithm, None


def needed(request: Request) -> list[str]:
    """The algorithms to give to `digest` for an upload. Raises S3Error."""
    algorithm, _ = wanted(request)
    return [algorithm] if algorithm is not None else []


def verify(request: Request, digests: Digests) -> Checksum | None:
    """The checksum to keep with what was uploaded. Raises S3Error BadDigest if a given one is wrong."""
    content_md5 = request.headers.get("content-md5")
    if content_md5 is not None:
        try:
            expected = base64.b64decode(content_md5, validate=True)
        except binascii.Error:
            expected = b""
        if len(expected) != 16:
            raise S3Error(400, "InvalidDigest", "The Content-MD5 you specified was invalid.")
        if expected.hex() != digests.md5:
            raise S3Error(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
    algorithm, value = wanted(request)
    if algorithm is None:
        return None
    computed = digests.checksums.get(algorithm)
    if value is not None and computed is not None and value != computed:
        message = f"The {algorithm} you specified did not match the calculated checksum."
        raise S3Error(400, "BadDigest", message)
    kept = value or computed
    return Checksum(algorithm, kept) if kept is not None else None
