"""An S3 request as the handlers see it, and which operation it is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_to_bytes

from reattach.api.bucket import LoggedRequest, Operation
from reattach.witness.s3.blob import Blob

if TYPE_CHECKING:
    from reattach.witness.s3.witnessed import Witnessed

_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)|^AWS ([^:\s]+):")

_SIGNATURE_PARAMETERS = frozenset({"x-id", "AWSAccessKeyId", "Signature", "Expires"})

_OVERRIDES = frozenset(
    {
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
    }
)

# What each lean operation can take besides what its choice needs; a request with any more is moto's.
_PARAMETERS: dict[Operation, frozenset[str]] = {
    Operation.GET_OBJECT: _OVERRIDES | {"partNumber"},
    Operation.HEAD_OBJECT: frozenset({"partNumber"}),
    Operation.UPLOAD_PART: frozenset({"partNumber", "uploadId"}),
    Operation.UPLOAD_PART_COPY: frozenset({"partNumber", "uploadId"}),
    Operation.CREATE_MULTIPART_UPLOAD: frozenset({"uploads"}),
    Operation.COMPLETE_MULTIPART_UPLOAD: frozenset({"uploadId"}),
    Operation.ABORT_MULTIPART_UPLOAD: frozenset({"uploadId"}),
    Operation.LIST_PARTS: frozenset({"uploadId", "max-parts", "part-number-marker", "encoding-type"}),
    Operation.LIST_MULTIPART_UPLOADS: frozenset({"uploads", "prefix", "encoding-type", "max-uploads"}),
    Operation.LIST_OBJECTS_V2: frozenset(
        {
            "list-type",
            "prefix",
            "delimiter",
            "max-keys",
            "start-after",
            "continuation-token",
            "encoding-type",
            "fetch-owner",
        }
    ),
    Operation.LIST_OBJECTS: frozenset({"prefix", "delimiter", "max-keys", "marker", "encoding-type"}),
    Operation.DELETE_OBJECTS: frozenset({"delete"}),
    Operation.GET_BUCKET_LOCATION: frozenset({"location"}),
}

# Headers of things that only moto keeps: tags, ACLs, encryption, locks, redirects.
_MOTO_HEADERS = (
    "x-amz-acl",
    "x-amz-grant-",
    "x-amz-tagging",
    "x-amz-server-side-encryption",
    "x-amz-object-",
    "x-amz-bucket-",
    "x-amz-website-redirect-location",
    "x-amz-bypass-governance-retention",
)


class BadTarget(Exception):
    """The request target is no path that S3 knows."""


@dataclass(slots=True)
class Request:
    """A request whose body has arrived. `headers` have lower-case names."""

    method: str
    target: bytes
    headers: dict[str, str]
    path: str
    bucket: str
    key: str
    query: dict[str, str]
    operation: Operation
    logged: LoggedRequest
    body: Blob | None = None
    trailers: dict[str, str] = field(default_factory=dict)
    witnessed: Witnessed | None = None
    """Its way through a world, if it is an actor's."""

    @property
    def wants_moto(self) -> bool:
        """Whether only moto can carry it out, by its own look."""
        return self.operation is Operation.OTHER

    @property
    def called(self) -> str:
        """The operation's name, whoever carries it out; "PutTagging" and the like for what has none here."""
        if self.operation is not Operation.OTHER:
            return self.operation
        operation = _classify_plainly(self.method, self.bucket, self.key, self.query, self.headers)
        known = _PARAMETERS.get(operation, frozenset())
        of = next((name for name, value in self.query.items() if not value and name not in known), None)
        if of is not None or operation is Operation.OTHER:
            return f"{self.method.title()}{(of or '').title()}"
        return operation


def parse_request(method: str, target: bytes, headers: dict[str, str], logged: LoggedRequest) -> Request:
    """Reads the request's head and fills in the log's entry. Raises BadTarget."""
    if not target.startswith(b"/"):
        scheme, _, rest = target.partition(b"://")
        slash = rest.find(b"/")
        if scheme not in (b"http", b"https") or slash < 0:
            raise BadTarget
        target = rest[slash:]
    raw_path, _, raw_query = target.partition(b"?")
    try:
        path = (unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path).decode()
        pairs = parse_qsl(raw_query.decode(), keep_blank_values=True, errors="strict") if raw_query else ()
    except UnicodeDecodeError as e:
        raise BadTarget from e
    query = dict(pairs)
    bucket, _, key = path[1:].partition("/")
    operation = _classify(method, bucket, key, query, headers)
    logged.client = _client(headers, query)
    logged.operation = operation
    logged.method = method
    logged.bucket = bucket
    logged.key = key or query.get("prefix", "")
    if operation in (Operation.UPLOAD_PART, Operation.UPLOAD_PART_COPY) and query["partNumber"].isdigit():
        logged.part_number = int(query["partNumber"])
    return Request(method, target, headers, path, bucket, key, query, operation, logged)


def _client(headers: dict[str, str], query: dict[str, str]) -> str:
    authorization = headers.get("authorization")
    if authorization is not None:
        match = _CREDENTIAL.search(authorization)
        return (match[1] or match[2]) if match else ""
    if not query:
        return ""
    return query.get("X-Amz-Credential", "").partition("/")[0] or query.get("AWSAccessKeyId", "")


def _classify(
    method: str, bucket: str, key: str, query: dict[str, str], headers: dict[str, str]
) -> Operation:
    operation = _classify_plainly(method, bucket, key, query, headers)
    if query and not _takes(operation, query):
        return Operation.OTHER
    if method in ("PUT", "POST", "DELETE") and any(name.startswith(_MOTO_HEADERS) for name in headers):
        return Operation.OTHER
    if headers.get("x-amz-storage-class", "STANDARD") != "STANDARD":
        return Operation.OTHER
    return operation


def _classify_plainly(
    method: str, bucket: str, key: str, query: dict[str, str], headers: dict[str, str]
) -> Operation:
    if not bucket:
        return Operation.LIST_BUCKETS if method == "GET" else Operation.OTHER
    return _classify_object(method, query, headers) if key else _classify_bucket(method, query)


def _takes(operation: Operation, query: dict[str, str]) -> bool:
    known = _PARAMETERS.get(operation, frozenset())
    return all(
        name in known or name in _SIGNATURE_PARAMETERS or name[:6].lower() == "x-amz-" for name in query
    )


def _classify_bucket(method: str, query: dict[str, str]) -> Operation:
    match method:
        case "GET" if query.get("list-type") == "2":
            return Operation.LIST_OBJECTS_V2
        case "GET" if "location" in query:
            return Operation.GET_BUCKET_LOCATION
        case "GET" if "uploads" in query:
            return Operation.LIST_MULTIPART_UPLOADS
        case "GET":
            return Operation.LIST_OBJECTS
        case "PUT":
            return Operation.CREATE_BUCKET
        case "HEAD":
            return Operation.HEAD_BUCKET
        case "DELETE":
            return Operation.DELETE_BUCKET
        case "POST" if "delete" in query:
            return Operation.DELETE_OBJECTS
    return Operation.OTHER


def _classify_object(method: str, query: dict[str, str], headers: dict[str, str]) -> Operation:
    match method:
        case "GET" if "uploadId" in query:
            return Operation.LIST_PARTS
        case "GET":
            return Operation.GET_OBJECT
        case "HEAD":
            return Operation.HEAD_OBJECT
        case "PUT" if "uploadId" in query and "partNumber" in query:
            copies = "x-amz-copy-source" in headers
            return Operation.UPLOAD_PART_COPY if copies else Operation.UPLOAD_PART
        case "PUT":
            return Operation.COPY_OBJECT if "x-amz-copy-source" in headers else Operation.PUT_OBJECT
        case "POST" if "uploads" in query:
            return Operation.CREATE_MULTIPART_UPLOAD
        case "POST" if "uploadId" in query:
            return Operation.COMPLETE_MULTIPART_UPLOAD
        case "DELETE":
            return Operation.ABORT_MULTIPART_UPLOAD if "uploadId" in query else Operation.DELETE_OBJECT
    return Operation.OTHER
