"""Requests to the mock S3 that make no sense, or only a little."""

from __future__ import annotations

import random
from urllib.parse import quote

from test_runner.fuzz.requests import PATH_TEXTS, RAW_BODIES, TEXTS, Request

BUCKET = "fuzz"
_KEYS = ("a", "a/b", "ü", "a//b", "a b", "+", "x" * 1024, "x" * 1025, "..", "%")
_METHODS = ("GET", "GET", "GET", "PUT", "PUT", "HEAD", "POST", "DELETE", "PATCH", "OPTIONS")
_QUERIES = (
    *("list-type=2", "list-type=3", "prefix=a", "delimiter=/", "max-keys=1", "max-keys=-1", "max-keys=x"),
    *("max-keys=99999999999999999999", "continuation-token=x", "start-after=%00", "encoding-type=url"),
    *("uploads", "uploadId=x", "partNumber=1", "partNumber=0", "partNumber=x", "delete", "acl", "tagging"),
    *("versioning", "location", "policy", "cors", "website", "versions", "versionId=x", "select", "restore"),
    *("response-content-type=x", "X-Amz-Signature=x", "%ff", "=", "&&", "lifecycle", "notification"),
)
_HEADERS = (
    *(("Range", b"bytes=0-0"), ("Range", b"bytes=9-1"), ("Range", b"bytes=-"), ("Range", b"x")),
    *(("If-Match", b"x"), ("If-None-Match", b"*"), ("If-Modified-Since", b"never")),
    *(("x-amz-copy-source", b"/fuzz/a"), ("x-amz-copy-source", b"%ff"), ("x-amz-copy-source", b"")),
    *(("x-amz-content-sha256", b"x"), ("x-amz-content-sha256", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD")),
    *(("Content-MD5", b"x"), ("x-amz-checksum-crc32", b"x"), ("x-amz-sdk-checksum-algorithm", b"CRC9")),
    *(("x-amz-meta-\xfc".encode("latin-1").decode("latin-1"), b"y"), ("x-amz-tagging", b"&&=&")),
    *(("Authorization", b"AWS4-HMAC-SHA256 Credential=x"), ("x-amz-date", b"x"), ("Transfer-Encoding", b"x")),
    *(("x-amz-storage-class", b"x"), ("x-amz-server-side-encryption", b"x"), ("x-amz-part-number", b"x")),
)
_XML = (
    b"<Delete><Object><Key>a</Key></Object></Delete>",
    b"<Delete/>",
    b"<Delete>",
    b"<CompleteMultipartUpload><Part><PartNumber>x</PartNumber></Part></CompleteMultipartUpload>",
    b'<!DOCTYPE x [<!ENTITY y "z">]><Delete>&y;</Delete>',
    b"<a>" * 5000,
    "<Delete><Object><Key>ü</Key></Object></Delete>".encode("utf-16"),
    b"\x00",
)


class BucketRequests:
    """An endless supply. Of the control API only what needs no secret."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def next(self) -> Request:
        """Any request."""
        rng = self._rng
        method = rng.choice(_METHODS)
        bucket = BUCKET if rng.random() < 0.8 else rng.choice(("", "nobody", "X_", "%00", *PATH_TEXTS))
        target = f"/{bucket}"
        if rng.random() < 0.7:
            target += f"/{quote(rng.choice((*_KEYS, *TEXTS))[:3000], safe='/%')}"
        if rng.random() < 0.02:
            target = f"/_control/{rng.choice(('rules', 'reset', 'objects', 'preload', 'x', 'rules/5'))}"
        if rng.random() < 0.6:
            target += "?" + "&".join(rng.sample(_QUERIES, rng.randrange(1, 4)))
        body = b"" if method in ("GET", "HEAD") else rng.choice((*RAW_BODIES, *_XML, *_XML, b"data", b"data"))
        headers = {"Host": b"127.0.0.1", "Content-Length": str(len(body)).encode()}
        if rng.random() < 0.4:
            headers |= dict([rng.choice(_HEADERS)])
        if "Transfer-Encoding" in headers:
            del headers["Content-Length"]
        head = b"".join(name.encode("latin-1") + b": " + value + b"\r\n" for name, value in headers.items())
        raw = f"{method} {target} HTTP/1.1\r\n".encode("latin-1", "replace") + head + b"\r\n" + body
        return Request(f"{method} {target[:200]} {headers} {body[:100]!r}", raw)


def wrong_with_bucket(status: int, body: bytes) -> str | None:
    """Why a bucket must not answer so; None if it may. 501: what S3 has and this one has not."""
    if status == 500 or status > 503 or status == 502:
        return "a 500 that nobody asked for"
    return None
