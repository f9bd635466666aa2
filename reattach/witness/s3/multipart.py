"""Multipart uploads."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from reattach.witness.s3 import digests
from reattach.witness.s3.blob import JoinedBlob, SlicedBlob
from reattach.witness.s3.buckets import OWNER, OWNER_ID
from reattach.witness.s3.objects import (
    check_write_conditions,
    checksum_headers,
    copy_source,
    find_bucket,
    kept_headers,
    local_name,
    local_text,
    parse_xml,
    part_number,
)
from reattach.witness.s3.request import Request
from reattach.witness.s3.responses import (
    Response,
    S3Error,
    element,
    invalid_argument,
    malformed_xml,
    no_such_upload,
    xml_response,
)
from reattach.witness.s3.store import (
    Bucket,
    Checksum,
    MotoUpload,
    Part,
    Store,
    StoredObject,
    Upload,
    iso_time,
)

if TYPE_CHECKING:
    from reattach.witness.s3.digests import Digests

_MIN_PART_BYTES = 5 << 20
_COPY_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


def _find_upload(bucket: Bucket, request: Request) -> Upload:
    upload_id = request.query["uploadId"]
    upload = bucket.uploads.get(upload_id)
    if upload is None or upload.key != request.key:
        raise no_such_upload(upload_id)
    return upload


def create_multipart_upload(store: Store, request: Request) -> Response:
    bucket = find_bucket(store, request.bucket)
    algorithm = request.headers.get("x-amz-checksum-algorithm", "").upper() or None
    kind = request.headers.get("x-amz-checksum-type", "").upper() or None
    if algorithm is not None and kind is None:
        kind = "FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE"
    upload = Upload(request.key, kept_headers(request.headers), algorithm, kind)
    bucket.uploads[upload.id] = upload
    content = element("Bucket", bucket.name) + element("Key", upload.key) + element("UploadId", upload.id)
    headers = []
    if algorithm is not None and kind is not None:
        content += element("ChecksumAlgorithm", algorithm) + element("ChecksumType", kind)
        headers = [("x-amz-checksum-algorithm", algorithm), ("x-amz-checksum-type", kind)]
    return xml_response("InitiateMultipartUploadResult", content, headers)


def upload_part(store: Store, request: Request, of_body: Digests) -> Response:
    upload = _find_upload(find_bucket(store, request.bucket), request)
    number = part_number(request)
    checksum = digests.verify(request, of_body)
    assert request.body is not None
    upload.parts[number] = Part(request.body, of_body.md5, checksum)
    headers = [("ETag", f'"{of_body.md5}"')]
    if checksum is not None:
        headers += checksum_headers(checksum)
    return Response(200, headers)


def part_to_copy(store: Store, request: Request) -> SlicedBlob:
    """The bytes that an UploadPartCopy takes. Raises S3Error."""
    _find_upload(find_bucket(store, request.bucket), request)
    part_number(request)
    source = copy_source(store, request)
    wanted = request.headers.get("x-amz-copy-source-range")
    if wanted is None:
        return SlicedBlob(source.blob, 0, source.blob.size)
    match = _COPY_RANGE.fullmatch(wanted)
    if match is None or not int(match[1]) <= int(match[2]) < source.blob.size:
        message = "The x-amz-copy-source-range value must be of the form bytes=first-last"
        raise invalid_argument(message, "x-amz-copy-source-range", wanted)
    return SlicedBlob(source.blob, int(match[1]), int(match[2]) + 1)


def upload_part_copy(store: Store, request: Request, of_body: Digests) -> Response:
    """With `request.body` as `part_to_copy` gave it."""
    upload = _find_upload(find_bucket(store, request.bucket), request)
    assert request.body is not None
    part = Part(request.body, of_body.md5, None)
    upload.parts[part_number(request)] = part
    content = f'<ETag>"{part.etag}"</ETag><LastModified>{iso_time(part.modified)}</LastModified>'
    return xml_response("CopyPartResult", content, [("ETag", f'"{part.etag}"')])


def complete_multipart_upload(store: Store, request: Request) -> Response:
    bucket = find_bucket(store, request.bucket)
    existing = bucket.objects.get(request.key)
    if existing is not None and existing.upload_id == request.query["uploadId"]:
        return _completed(bucket, request.key, existing)
    upload = _find_upload(bucket, request)
    parts = _chosen_parts(upload, request)
    check_write_conditions(bucket, request)
    etags = b"".join(bytes.fromhex(part.etag) for part in parts)
    etag = f"{hashlib.md5(etags, usedforsecurity=False).hexdigest()}-{len(parts)}"
    blob = JoinedBlob([part.blob for part in parts])
    obj = StoredObject(
        blob, etag, upload.headers, checksum=_whole_checksum(upload, parts), upload_id=upload.id
    )
    obj.part_sizes = tuple(part.blob.size for part in parts)
    bucket.put(upload.key, obj)
    del bucket.uploads[upload.id]
    return _completed(bucket, upload.key, obj)


def _chosen_parts(upload: Upload, request: Request) -> list[Part]:
    """The parts that the request lists. Raises S3Error."""
    parts: list[Part] = []
    previous = 0
    for entry in parse_xml(request):
        if local_name(entry) != "Part":
            continue
        number = local_text(entry, "PartNumber") or ""
        if not number.isdigit():
            raise malformed_xml()
        part = upload.parts.get(int(number))
        if part is None or (local_text(entry, "ETag") or "").strip('"') != part.etag:
            message = (
                "One or more of the specified parts could not be found. The part might not have been "
                "uploaded, or the specified entity tag might not have matched the part's entity tag."
            )
            raise S3Error(400, "InvalidPart", message)
        if int(number) <= previous:
            message = (
                "The list of parts was not in ascending order. The parts list must be specified in order by "
                "part number."
            )
            raise S3Error(400, "InvalidPartOrder", message)
        if parts and parts[-1].blob.size < _MIN_PART_BYTES:
            message = "Your proposed upload is smaller than the minimum allowed object size."
            raise S3Error(400, "EntityTooSmall", message)
        previous = int(number)
        parts.append(part)
    if not parts:
        raise malformed_xml()
    return parts


def _whole_checksum(upload: Upload, parts: list[Part]) -> Checksum | None:
    algorithm = upload.checksum_algorithm
    if algorithm is None or upload.checksum_type != "COMPOSITE":
        return None
    value = digests.composite(algorithm, (part.checksum for part in parts))
    return Checksum(algorithm, value, "COMPOSITE") if value is not None else None


def _completed(bucket: Bucket, key: str, obj: StoredObject) -> Response:
    content = (
        element("Location", f"http://{bucket.name}.s3.amazonaws.com/{key}")
        + element("Bucket", bucket.name)
        + element("Key", key)
        + f'<ETag>"{obj.etag}"</ETag>'
    )
    if obj.checksum is not None:
        name = f"Checksum{obj.checksum.algorithm}"
        content += element(name, obj.checksum.value) + element("ChecksumType", obj.checksum.kind)
    return xml_response("CompleteMultipartUploadResult", content)


def abort_multipart_upload(store: Store, request: Request) -> Response:
    bucket = find_bucket(store, request.bucket)
    del bucket.uploads[_find_upload(bucket, request).id]
    return Response(204, length=None)


def list_parts(store: Store, request: Request) -> Response:
    bucket = find_bucket(store, request.bucket)
    upload = _find_upload(bucket, request)
    marker = _small_number(request, "part-number-marker", 0)
    max_parts = _small_number(request, "max-parts", 1000)
    numbers = sorted(number for number in upload.parts if number > marker)
    page = numbers[:max_parts]
    entries = "".join(
        f"<Part><PartNumber>{number}</PartNumber><LastModified>{iso_time(part.modified)}</LastModified>"
        f'<ETag>"{part.etag}"</ETag><Size>{part.blob.size}</Size></Part>'
        for number, part in ((number, upload.parts[number]) for number in page)
    )
    content = (
        element("Bucket", bucket.name)
        + element("Key", upload.key)
        + element("UploadId", upload.id)
        + element("PartNumberMarker", marker)
        + element("NextPartNumberMarker", page[-1] if page else 0)
        + element("MaxParts", max_parts)
        + element("IsTruncated", "true" if len(page) < len(numbers) else "false")
        + entries
        + f"<Initiator><ID>{OWNER_ID}</ID><DisplayName>webfile</DisplayName></Initiator>"
        + OWNER
        + "<StorageClass>STANDARD</StorageClass>"
    )
    return xml_response("ListPartsResult", content)


def _small_number(request: Request, name: str, default: int) -> int:
    text = request.query.get(name, "") or str(default)
    if not (text.isdigit() and text.isascii()) or int(text) > 2147483647:
        raise invalid_argument(f"Provided {name} not an integer or within integer range", name, text)
    return int(text)


def list_multipart_uploads(store: Store, request: Request) -> Response:
    bucket = find_bucket(store, request.bucket)
    prefix = request.query.get("prefix", "")
    uploads: tuple[Upload | MotoUpload, ...] = (*bucket.uploads.values(), *bucket.moto_uploads.values())
    entries = "".join(
        f"<Upload>{element('UploadId', upload.id)}{element('Key', upload.key)}"
        f"<Initiated>{iso_time(upload.started)}</Initiated><StorageClass>STANDARD</StorageClass>{OWNER}"
        f"<Initiator><ID>{OWNER_ID}</ID><DisplayName>webfile</DisplayName></Initiator></Upload>"
        for upload in sorted(uploads, key=lambda upload: (upload.key, upload.started))
        if upload.key.startswith(prefix)
    )
    content = (
        element("Bucket", bucket.name)
        + "<KeyMarker/><UploadIdMarker/><MaxUploads>1000</MaxUploads><IsTruncated>false</IsTruncated>"
        + entries
    )
    return xml_response("ListMultipartUploadsResult", content)
