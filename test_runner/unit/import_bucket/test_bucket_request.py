"""Which operation a request is, and whose."""

from __future__ import annotations

import pytest

from reattach.api.bucket import LoggedRequest, Operation
from reattach.witness.s3.request import BadTarget, Request, parse_request

COPY = {"x-amz-copy-source": "/b/k"}


def parse(method: str, target: str, headers: dict[str, str] | None = None) -> Request:
    return parse_request(method, target.encode(), headers or {}, LoggedRequest(seq=1, time=0, started=0))


@pytest.mark.parametrize(
    ("method", "target", "headers", "operation"),
    [
        ("GET", "/", {}, Operation.LIST_BUCKETS),
        ("GET", "/?x-id=ListBuckets", {}, Operation.LIST_BUCKETS),
        ("PUT", "/b", {}, Operation.CREATE_BUCKET),
        ("PUT", "/b/", {}, Operation.CREATE_BUCKET),
        ("HEAD", "/b", {}, Operation.HEAD_BUCKET),
        ("DELETE", "/b", {}, Operation.DELETE_BUCKET),
        ("GET", "/b", {}, Operation.LIST_OBJECTS),
        ("GET", "/b?list-type=2&prefix=a", {}, Operation.LIST_OBJECTS_V2),
        ("GET", "/b?location", {}, Operation.GET_BUCKET_LOCATION),
        ("GET", "/b?uploads", {}, Operation.LIST_MULTIPART_UPLOADS),
        ("GET", "/b?versions", {}, Operation.OTHER),
        ("GET", "/b?policy", {}, Operation.OTHER),
        ("PUT", "/b?versioning", {}, Operation.OTHER),
        ("POST", "/b?delete", {}, Operation.DELETE_OBJECTS),
        ("POST", "/b", {}, Operation.OTHER),
        ("GET", "/b/k", {}, Operation.GET_OBJECT),
        ("GET", "/b/k?x-id=GetObject&X-Amz-Signature=1", {}, Operation.GET_OBJECT),
        ("GET", "/b/k?response-content-type=a", {}, Operation.GET_OBJECT),
        ("GET", "/b/k?versionId=1", {}, Operation.OTHER),
        ("GET", "/b/k?tagging", {}, Operation.OTHER),
        ("HEAD", "/b/k", {}, Operation.HEAD_OBJECT),
        ("PUT", "/b/k", {}, Operation.PUT_OBJECT),
        ("PUT", "/b/k", {"x-amz-meta-a": "b"}, Operation.PUT_OBJECT),
        ("PUT", "/b/k", {"x-amz-storage-class": "STANDARD"}, Operation.PUT_OBJECT),
        ("PUT", "/b/k", {"x-amz-storage-class": "GLACIER"}, Operation.OTHER),
        ("PUT", "/b/k", {"x-amz-tagging": "a=b"}, Operation.OTHER),
        ("PUT", "/b/k", {"x-amz-server-side-encryption": "AES256"}, Operation.OTHER),
        ("PUT", "/b/k", COPY, Operation.COPY_OBJECT),
        ("PUT", "/b/k?partNumber=1&uploadId=u", {}, Operation.UPLOAD_PART),
        ("PUT", "/b/k?partNumber=1&uploadId=u", COPY, Operation.UPLOAD_PART_COPY),
        ("POST", "/b/k?uploads", {}, Operation.CREATE_MULTIPART_UPLOAD),
        ("POST", "/b/k?uploadId=u", {}, Operation.COMPLETE_MULTIPART_UPLOAD),
        ("DELETE", "/b/k?uploadId=u", {}, Operation.ABORT_MULTIPART_UPLOAD),
        ("DELETE", "/b/k", {}, Operation.DELETE_OBJECT),
        ("GET", "/b/k?uploadId=u", {}, Operation.LIST_PARTS),
        ("PATCH", "/b/k", {}, Operation.OTHER),
    ],
)
def test_operations(method: str, target: str, headers: dict[str, str], operation: Operation) -> None:
    assert parse(method, target, headers).operation is operation


@pytest.mark.parametrize(
    ("method", "target", "headers", "called"),
    [
        ("PUT", "/b/k", {}, "PutObject"),
        ("PUT", "/b/k", {"x-amz-acl": "private"}, "PutObject"),
        ("POST", "/b/k?uploads=", {"x-amz-acl": "private"}, "CreateMultipartUpload"),
        ("PUT", "/b/k?partNumber=1&uploadId=u", {"x-amz-server-side-encryption": "AES256"}, "UploadPart"),
        ("GET", "/b/k?versionId=1", {}, "GetObject"),
        ("GET", "/b/k?tagging", {}, "GetTagging"),
        ("PUT", "/b?versioning=", {}, "PutVersioning"),
        ("DELETE", "/b/k?tagging", {}, "DeleteTagging"),
        ("PATCH", "/b/k", {}, "Patch"),
    ],
)
def test_what_a_request_is_called_does_not_depend_on_who_carries_it_out(
    method: str, target: str, headers: dict[str, str], called: str
) -> None:
    assert parse(method, target, headers).called == called


@pytest.mark.parametrize("target", ["/b/%FF", "*", "b/k", "ftp://h/b", "/b?prefix=%FF"])
def test_bad_targets(target: str) -> None:
    with pytest.raises(BadTarget):
        parse("GET", target)


@pytest.mark.parametrize(
    ("target", "headers", "client"),
    [
        ("/b", {}, ""),
        (
            "/b",
            {"authorization": "AWS4-HMAC-SHA256 Credential=AK/20260101/r/s3/x, Signature=1"},
            "AK",
        ),
        ("/b", {"authorization": "AWS AK2:sig"}, "AK2"),
        ("/b?X-Amz-Credential=AK3%2F20260101%2Fr", {}, "AK3"),
        ("/b?AWSAccessKeyId=AK4&Signature=x&Expires=1", {}, "AK4"),
        ("/b", {"authorization": "Bearer x"}, ""),
    ],
)
def test_clients(target: str, headers: dict[str, str], client: str) -> None:
    assert parse("GET", target, headers).logged.client == client
