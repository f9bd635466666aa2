"""Operations on one object, and DeleteObjects."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote
from xml.etree import ElementTree

from reattach.witness.s3 import digests, xml_bodies
from reattach.witness.s3.blob import BlobChanged, Pieces
from reattach.witness.s3.conditions import (
    UnsatisfiableRange,
    copy_refused,
    failed_precondition,
    is_not_modified,
    resolve_range,
)
from reattach.witness.s3.request import Request
from reattach.witness.s3.responses import (
    Response,
    S3Error,
    element,
    internal_error,
    invalid_argument,
    malformed_xml,
    no_such_bucket,
    no_such_key,
    precondition_failed,
    xml_response,
)
from reattach.witness.s3.store import Bucket, Checksum, Store, StoredObject

if TYPE_CHECKING:
    from reattach.witness.s3.digests import Digests

MAX_PART = 10_000

_KEPT_HEADERS = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
    }
)


def find_bucket(store: Store, name: str) -> Bucket:
    """Raises S3Error."""
    bucket = store.buckets.get(name)
    if bucket is None:
        raise no_such_bucket(name)
    return bucket


def find_object(store: Store, bucket: str, key: str) -> StoredObject:
    """Raises S3Error."""
    obj = find_bucket(store, bucket).objects.get(key)
    if obj is None:
        raise no_such_key(key)
    return obj


def kept_headers(headers: dict[str, str]) -> dict[str, str]:
    """What of an upload's headers its GETs give back."""
    kept = {
        name: value
        for name, value in headers.items()
        if name in _KEPT_HEADERS or name.startswith("x-amz-meta-")
    }
    encodings = [part.strip() for part in kept.pop("content-encoding", "").split(",")]
    encoding = ",".join(part for part in encodings if part and part != "aws-chunked")
    if encoding:
        kept["content-encoding"] = encoding
    return kept


def open_blob(obj: StoredObject, start: int, end: int) -> Pieces:
    """Raises S3Error."""
    try:
        return obj.blob.open(start, end)
    except BlobChanged as e:
        raise internal_error(str(e)) from e


def get_object(store: Store, request: Request) -> Response:
    return _read(store, request, with_body=True)


def head_object(store: Store, request: Request) -> Response:
    return _read(store, request, with_body=False)


def _read(store: Store, request: Request, *, with_body: bool) -> Response:
    obj = find_object(store, request.bucket, request.key)
    headers = request.headers
    failed = failed_precondition(headers, obj.etag, obj.modified)
    if failed is not None:
        raise precondition_failed(failed)
    if is_not_modified(headers, obj.etag, obj.modified):
        return Response(304, (("ETag", f'"{obj.etag}"'), ("Last-Modified", obj.last_modified)), length=None)
    size = obj.blob.size
    part = _wanted_part(obj, request)
    try:
        wanted = resolve_range(headers.get("range"), size) if part is None else part
    except UnsatisfiableRange:
        raise S3Error(
            416,
            "InvalidRange",
            "The requested range is not satisfiable",
            details=[("ActualObjectSize", str(size)), ("RangeRequested", headers["range"])],
        ) from None
    request.logged.byte_range = wanted
    start, end = wanted or (0, size)
    extra: list[tuple[str, str]] = []
    if wanted is not None and size:
        extra.append(("Content-Range", f"bytes {start}-{end - 1}/{size}"))
    if part is not None and len(obj.part_sizes) > 1:
        extra.append(("x-amz-mp-parts-count", str(len(obj.part_sizes))))
    if obj.checksum is not None and end - start == size and headers.get("x-amz-checksum-mode") == "ENABLED":
        extra += checksum_headers(obj.checksum)
    head = obj.head
    if request.query and with_body:
        head = _overridden(head, request.query)
    response = Response(200 if wanted is None else 206, extra, head=head, length=end - start)
    if with_body and end > start:
        response.body = open_blob(obj, start, end)
    return response


def _wanted_part(obj: StoredObject, request: Request) -> tuple[int, int] | None:
    """The range of the part that a GET or HEAD asks for. Raises S3Error."""
    if "partNumber" not in request.query:
        return None
    number = part_number(request)
    if "range" in request.headers:
        raise S3Error(
            400, "InvalidRequest", "Cannot specify both Range header and partNumber query parameter"
        )
    sizes = obj.part_sizes or (obj.blob.size,)
    if number > len(sizes):
        raise S3Error(
            416,
            "InvalidPartNumber",
            "The requested partnumber is not satisfiable",
            details=[("ActualPartCount", str(len(sizes))), ("PartNumberRequested", str(number))],
        )
    start = sum(sizes[: number - 1])
    return start, start + sizes[number - 1]


def part_number(request: Request) -> int:
    """Raises S3Error."""
    text = request.query["partNumber"]
    if not (text.isdigit() and text.isascii() and len(text) < 9) or not 1 <= int(text) <= MAX_PART:
        message = f"Part number must be an integer between 1 and {MAX_PART}, inclusive"
        raise invalid_argument(message, "partNumber", text)
    return int(text)


def _overridden(head: bytes, query: dict[str, str]) -> bytes:
    for name, value in query.items():
        if name.startswith("response-"):
            header = name.removeprefix("response-").encode()
            if "\r" in value or "\n" in value:
                raise invalid_argument("The header value is invalid", name, value)
            head = re.sub(rb"(?im)^" + re.escape(header) + rb": .*\r\n", b"", head)
            head += header + b": " + value.encode("utf-8") + b"\r\n"
    return head


def checksum_headers(checksum: Checksum) -> list[tuple[str, str]]:
    headers = [(f"x-amz-checksum-{checksum.algorithm.lower()}", checksum.value)]
    if checksum.kind is not None:
        headers.append(("x-amz-checksum-type", checksum.kind))
    return headers


def check_write_conditions(bucket: Bucket, request: Request) -> None:
    """If-Match and If-None-Match of a write. Raises S3Error."""
    existing = bucket.objects.get(request.key)
    if_match = request.headers.get("if-match")
    if if_match is not None:
        if existing is None:
            raise no_such_key(request.key)
        if if_match.strip('"') not in (existing.etag, "*"):
            raise precondition_failed("If-Match")
    if request.headers.get("if-none-match") == "*" and existing is not None:
        raise precondition_failed("If-None-Match")


def put_object(store: Store, request: Request, of_body: Digests) -> Response:
    bucket = find_bucket(store, request.bucket)
    checksum = digests.verify(request, of_body)
    check_write_conditions(bucket, request)
    assert request.body is not None
    obj = StoredObject(request.body, of_body.md5, kept_headers(request.headers), checksum=checksum)
    bucket.put(request.key, obj)
    headers = [("ETag", f'"{obj.etag}"')]
    if checksum is not None:
        headers += checksum_headers(checksum)
        headers.append(("x-amz-sdk-checksum-algorithm", checksum.algorithm))
    return Response(200, headers)


def copy_source(store: Store, request: Request) -> StoredObject:
    """The object that x-amz-copy-source names. Raises S3Error."""
    source, _, query = request.headers["x-amz-copy-source"].partition("?")
    if parse_qs(query).get("versionId", ["null"])[0] != "null":
        raise S3Error(404, "NoSuchVersion", "The specified version does not exist.")
    # Header text is latin-1, and the name inside is UTF-8, percent-encoded or not.
    try:
        path = unquote(source.encode("latin-1").decode(), errors="strict").removeprefix("/")
    except UnicodeDecodeError as e:
        raise invalid_argument("Copy Source must be URL-encoded UTF-8", "x-amz-copy-source", source) from e
    bucket, slash, key = path.partition("/")
    if not slash or not key:
        message = "Copy Source must mention the source bucket and key: sourcebucket/sourcekey"
        raise invalid_argument(message, "x-amz-copy-source", source)
    obj = find_object(store, bucket, key)
    refused = copy_refused(request.headers, obj.etag, obj.modified)
    if refused is not None:
        raise precondition_failed(refused)
    return obj


def copy_object(store: Store, request: Request) -> Response:
    bucket = find_bucket(store, request.bucket)
    source = copy_source(store, request)
    replaces = request.headers.get("x-amz-metadata-directive") == "REPLACE"
    if not replaces and bucket.objects.get(request.key) is source:
        message = (
            "This copy request is illegal because it is trying to copy an object to itself without changing "
            "the object's metadata, storage class, website redirect location or encryption attributes."
        )
        raise S3Error(400, "InvalidRequest", message)
    check_write_conditions(bucket, request)
    headers = kept_headers(request.headers) if replaces else source.headers
    obj = StoredObject(source.blob, source.etag, headers, checksum=source.checksum)
    bucket.put(request.key, obj)
    content = f'<ETag>"{obj.etag}"</ETag><LastModified>{obj.modified_iso}</LastModified>'
    return xml_response("CopyObjectResult", content, [("ETag", f'"{obj.etag}"')])


def delete_object(store: Store, request: Request) -> Response:
    bucket = find_bucket(store, request.bucket)
    if "if-match" in request.headers:
        check_write_conditions(bucket, request)
    bucket.delete(request.key)
    return Response(204, length=None)


def delete_objects(store: Store, request: Request) -> Response:
    bucket = find_bucket(store, request.bucket)
    root = parse_xml(request)
    keys = [local_text(entry, "Key") for entry in root if local_name(entry) == "Object"]
    if not keys or len(keys) > 1000 or None in keys:
        raise malformed_xml()
    for key in keys:
        assert key is not None
        bucket.delete(key)
    quiet = (local_text(root, "Quiet") or "").lower() == "true"
    deleted = "" if quiet else "".join(f"<Deleted>{element('Key', key)}</Deleted>" for key in keys)
    return xml_response("DeleteResult", deleted)


def parse_xml(request: Request) -> ElementTree.Element:
    """The request's body. Raises S3Error."""
    if request.body is None or request.body.size > 8 << 20:
        raise malformed_xml()
    try:
        return xml_bodies.parse(request.body.open(0, request.body.size).read())
    except xml_bodies.BadXml as e:
        raise malformed_xml() from e


def local_name(entry: ElementTree.Element) -> str:
    return entry.tag.rpartition("}")[2]


def local_text(entry: ElementTree.Element, name: str) -> str | None:
    """The text of the child called `name`, whatever its namespace."""
    return next((child.text or "" for child in entry if local_name(child) == name), None)
