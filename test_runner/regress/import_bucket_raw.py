"""A raw HTTP client and the parts of an S3 answer that clients look at."""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote
from xml.etree import ElementTree

from obstore.store import S3Store

from reattach.fixtures.bucket import BucketServer

AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=AKRAW/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00"
)

COMPARED_HEADERS = (
    "accept-ranges",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-range",
    "etag",
    "location",
    "x-amz-bucket-region",
)

# Different on any two servers, or (the markers of ListObjects) where moto is not as S3 is.
_VOLATILE = frozenset(
    {
        "RequestId",
        "HostId",
        "LastModified",
        "CreationDate",
        "Initiated",
        "Initiator",
        "UploadId",
        "Marker",
        "NextContinuationToken",
        "NextMarker",
        "ContinuationToken",
    }
)

Xml = tuple[str, str, tuple["Xml", ...]]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def xml(self) -> ElementTree.Element:
        return ElementTree.fromstring(self.body)

    def find(self, name: str) -> str:
        """The text of the first element called `name`, whatever its namespace. Raises KeyError."""
        for element in self.xml.iter():
            if element.tag.rpartition("}")[2] == name:
                return element.text or ""
        raise KeyError(name)

    @property
    def error(self) -> str:
        return self.find("Code")

    def comparable(self) -> tuple[int, dict[str, str], object]:
        """What two servers must agree on."""
        headers = {name: self.headers[name] for name in COMPARED_HEADERS if name in self.headers}
        headers |= {
            name: value
            for name, value in self.headers.items()
            if name.startswith(("x-amz-meta-", "x-amz-checksum"))
        }
        if self.status == 304:
            headers.pop("accept-ranges", None)
        if "last-modified" in self.headers:
            assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", self.headers["last-modified"])
        is_xml = self.body.startswith(b"<?xml")
        if self.status == 200 and not is_xml and "accept-ranges" in headers:
            headers["content-type"] = self.headers["content-type"]
            headers["content-length"] = self.headers["content-length"]
        return self.status, headers, _comparable(self.xml) if is_xml else self.body


def _comparable(element: ElementTree.Element) -> Xml:
    name = element.tag.rpartition("}")[2]
    children = [_comparable(child) for child in element]
    return (
        name.replace("ListPartsResponse", "ListPartsResult"),
        (element.text or "").strip('"'),
        # Elements of one name keep their order, which tells a listing's.
        tuple(sorted((child for child in children if not _is_left_out(child)), key=lambda child: child[0])),
    )


def _is_left_out(element: Xml) -> bool:
    return element[0] in _VOLATILE or element == ("Prefix", "", ())


class Raw:
    """One connection to one server, which it opens again when it is closed."""

    def __init__(self, port: int, *, signed: bool = True) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self._headers = {"Authorization": AUTHORIZATION} if signed else {}

    def __call__(self, method: str, target: str, body: bytes | None = None, **headers: str) -> Answer:
        """`target` as it goes out, percent-encoded; header names with `_` for `-`."""
        sent = self._headers | {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            self._connection.request(method, target, body, sent)
            response = self._connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise

    def close(self) -> None:
        self._connection.close()


def obstore_client(server: BucketServer, bucket: str, *, sign: bool = True, timeout: str = "30s") -> S3Store:
    """A client that does not retry."""
    return S3Store(
        bucket,
        endpoint=server.endpoint,
        region=server.region,
        access_key_id="obstore",
        secret_access_key="secret",
        skip_signature=not sign,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "timeout": timeout},
        retry_config={"max_retries": 0},
    )


def path(bucket: str, key: str = "") -> str:
    """A target with the key percent-encoded."""
    return f"/{bucket}/{quote(key)}" if key else f"/{bucket}"
