"""What S3 refuses, the bucket refuses with S3's words; and no client takes for ever."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reattach.fixtures.bucket import BucketServer
from reattach.fixtures.http_probe import probe
from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.processes import Launcher, wait_for
from test_runner.regress.import_bucket_raw import AUTHORIZATION, Raw

BUCKET = "edges"
ENTITIES = '<?xml version="1.0" encoding="{0}"?><!DOCTYPE d [<!ENTITY k "a">]>'


@pytest.fixture
def raw(bucket_server: BucketServer) -> Iterator[Raw]:
    bucket_server.create_bucket(BUCKET)
    bucket_server.put(BUCKET, "a", b"content")
    client = Raw(bucket_server.port)
    yield client
    client.close()
    bucket_server.delete(BUCKET, "a")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    ("method", "target", "document"),
    [
        ("POST", f"/{BUCKET}?delete", "<Delete><Object><Key>&k;</Key></Object></Delete>"),
        (
            "PUT",
            f"/{BUCKET}/a?tagging",
            "<Tagging><TagSet><Tag><Key>&k;</Key><Value>v</Value></Tag></TagSet></Tagging>",
        ),
        (
            "PUT",
            f"/{BUCKET}?versioning",
            "<VersioningConfiguration><Status>&k;</Status></VersioningConfiguration>",
        ),
    ],
    ids=["delete", "tagging", "versioning"],
)
def test_entities_are_refused(raw: Raw, method: str, target: str, document: str, encoding: str) -> None:
    body = (ENTITIES.format(encoding) + document).encode(encoding)
    answer = raw(method, target, body)
    # Without a byte order mark some read UTF-16 as no XML at all.
    assert answer.status in (400, 404) and (not answer.body or answer.error == "MalformedXML")
    assert raw("GET", f"/{BUCKET}/a").body == b"content"


@pytest.mark.parametrize("body", [b"no xml", b"<a>", b"\xff\xfe", b"<Delete><Object/></Delete>", b"<a/>" * 2])
@pytest.mark.parametrize("target", [f"/{BUCKET}?delete", f"/{BUCKET}/a?uploadId=x"])
def test_what_is_no_xml_is_refused(raw: Raw, target: str, body: bytes) -> None:
    assert raw("POST", target, body).status in (400, 404)


@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD", "DELETE"])
def test_a_long_key(raw: Raw, method: str) -> None:
    """In bytes: 1,024 are allowed."""
    body = b"x" if method == "PUT" else None
    for key in ("x" * 1025, "%C3%A9" * 513):
        answer = raw(method, f"/{BUCKET}/{key}", body)
        assert answer.status == 400
        assert method == "HEAD" or answer.error == "KeyTooLongError"
    for key in ("x" * 1024, "%C3%A9" * 512):
        assert raw(method, f"/{BUCKET}/{key}", body).status in (200, 204, 404)
        raw("DELETE", f"/{BUCKET}/{key}")


@pytest.mark.parametrize(
    "policy",
    [
        b"no json",
        b"[]",
        b"{}",
        b'{"Statement": 5}',
        b'{"Statement": [5]}',
        b'{"Statement": {"Effect": "Maybe", "Action": "*", "Resource": "*", "Principal": "*"}}',
        b'{"Statement": {"Effect": "Allow", "Resource": "*", "Principal": "*"}}',
        b'{"Statement": {"Effect": "Allow", "Action": {"a": 1}, "Resource": "*", "Principal": "*"}}',
    ],
)
def test_a_malformed_policy_is_refused_and_changes_nothing(raw: Raw, policy: bytes) -> None:
    answer = raw("PUT", f"/{BUCKET}?policy", policy)
    assert (answer.status, answer.error) == (400, "MalformedPolicy")
    assert raw("GET", f"/{BUCKET}/a").body == b"content"
    assert raw("GET", f"/{BUCKET}/a?tagging").status == 200


def test_a_policy_is_kept(bucket_server: BucketServer) -> None:
    policy = (
        b'{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, '
        b'"Action": ["s3:GetObject"], "Resource": "arn:aws:s3:::with-policy/*"}]}'
    )
    raw = Raw(bucket_server.port)
    raw("PUT", "/with-policy")
    assert raw("PUT", "/with-policy?policy", policy).status in (200, 204)
    assert raw("GET", "/with-policy?policy").body == policy
    raw.close()


SUBRESOURCES = """
    ?acl ?cors ?encryption ?lifecycle ?logging ?notification ?tagging ?website ?policy ?versioning
    ?object-lock ?accelerate ?publicAccessBlock ?ownershipControls ?replication ?inventory&id=x
    /a?tagging /a?acl /a?retention /a?legal-hold /a?restore
"""


@pytest.mark.parametrize("target", SUBRESOURCES.split())
@pytest.mark.parametrize("body", [b"no document", b"<a/>", b"{}", b"<a><b>1</b></a>", b"\x00"])
def test_documents_that_are_none_are_the_clients_fault(
    bucket_server: BucketServer, target: str, body: bytes
) -> None:
    raw = Raw(bucket_server.port)
    raw("PUT", "/spoilt")
    raw("PUT", "/spoilt/a", b"content")
    method = "POST" if "restore" in target else "PUT"
    assert raw(method, f"/spoilt{target}", body).status < 500
    assert raw("GET", "/spoilt/a").status < 500
    raw.close()


def test_parts_can_be_read_alone(bucket_server: BucketServer) -> None:
    bodies = [os.urandom(5 << 20), os.urandom(5 << 20), b"the tail"]
    bucket_server.create_bucket(BUCKET)
    client = bucket_server.client()
    upload = client.create_multipart_upload(Bucket=BUCKET, Key="big")["UploadId"]
    etags = [
        client.upload_part(Bucket=BUCKET, Key="big", UploadId=upload, PartNumber=number, Body=body)["ETag"]
        for number, body in enumerate(bodies, 1)
    ]
    client.complete_multipart_upload(
        Bucket=BUCKET,
        Key="big",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, 1)]},
    )
    start = 0
    for number, body in enumerate(bodies, 1):
        head = client.head_object(Bucket=BUCKET, Key="big", PartNumber=number)
        assert (head["ContentLength"], head["PartsCount"]) == (len(body), 3)
        got = client.get_object(Bucket=BUCKET, Key="big", PartNumber=number)
        assert got["Body"].read() == body
        assert got["ContentRange"] == f"bytes {start}-{start + len(body) - 1}/{sum(map(len, bodies))}"
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
        start += len(body)
    raw = Raw(bucket_server.port)
    for query, status, code in (
        ("partNumber=4", 416, "InvalidPartNumber"),
        ("partNumber=0", 400, "InvalidArgument"),
        ("partNumber=x", 400, "InvalidArgument"),
        ("partNumber=10001", 400, "InvalidArgument"),
    ):
        answer = raw("GET", f"/{BUCKET}/big?{query}")
        assert (answer.status, answer.error) == (status, code), query
    assert raw("GET", f"/{BUCKET}/big?partNumber=1", Range="bytes=0-1").status == 400
    raw.close()


def test_an_object_that_was_written_at_once_is_its_only_part(raw: Raw) -> None:
    answer = raw("GET", f"/{BUCKET}/a?partNumber=1")
    assert (answer.status, answer.body, answer.headers["content-range"]) == (206, b"content", "bytes 0-6/7")
    assert "x-amz-mp-parts-count" not in answer.headers
    assert raw("GET", f"/{BUCKET}/a?partNumber=2").status == 416


def exchange(port: int, sent: bytes, seconds: float = 10) -> bytes:
    """What comes back until the server closes or has nothing more to say for a while."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(sent)
        while part := connection.recv(65536):
            received += part
            if b"\r\n\r\n" in received.replace(b"100 Continue\r\n\r\n", b""):
                break
    return received


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_who_expects_100_gets_it_first(bucket_server: BucketServer, method: str) -> None:
    """Also without a body: a client that waits for it would take the next answer for it."""
    bucket_server.create_bucket(BUCKET)
    head = (
        f"{method} /{BUCKET}/empty HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
        f"Expect: 100-continue\r\nAuthorization: {AUTHORIZATION}\r\n\r\n"
    )
    answer = exchange(bucket_server.port, head.encode())
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 ")


@pytest.mark.parametrize("size", [70_000, 200_000, 1 << 20])
@pytest.mark.parametrize("ended", [True, False], ids=["whole", "endless"])
def test_large_headers_are_refused(bucket_server: BucketServer, size: int, ended: bool) -> None:
    head = b"GET /x/y HTTP/1.1\r\nHost: x\r\nX-Large: " + b"a" * size + (b"\r\n\r\n" if ended else b"")
    try:
        assert exchange(bucket_server.port, head).startswith(b"HTTP/1.1 431 ")
    except ConnectionResetError:
        assert size > 200_000, "what was sent meanwhile may reset the connection"


@pytest.fixture
def impatient(launcher: Launcher, port_distributor: PortDistributor, tmp_path: Path) -> Iterator[int]:
    """The port of a server that gives clients half a second."""
    port = port_distributor.get_port()
    process = launcher.start(
        "witness",
        [
            sys.executable,
            "-m",
            "reattach.witness",
            "--listen",
            f"127.0.0.1:{port}",
            "--patience",
            "0.5",
            "0.5",
            "0.5",
        ],
        log_path=tmp_path / "log",
    )
    wait_for(lambda: probe(port, "/") == 200, what="it to answer", timeout=20, alive=process)
    yield port
    process.kill()
    process.wait(10)


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHost:", b"HTTP/1.1 400 "),
        (b"PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", b"HTTP/1.1 400 "),
        (b"PUT /b/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha", b"HTTP/1.1 400 "),
    ],
    ids=["idle", "head", "body", "chunked"],
)
def test_nobody_waits_for_ever(impatient: int, sent: bytes, answered: bytes) -> None:
    began = time.monotonic()
    answer = exchange(impatient, sent)
    assert answer.startswith(answered)
    assert 0.4 < time.monotonic() - began < 5


def test_a_head_that_trickles_is_given_up(impatient: int) -> None:
    with socket.create_connection(("127.0.0.1", impatient), timeout=10) as connection:
        deadline = time.monotonic() + 5
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() < deadline:
                connection.sendall(b"G")
                time.sleep(0.05)
            pytest.fail("it waits for the rest of the head")


def test_a_body_that_goes_on_coming_is_taken(impatient: int) -> None:
    with socket.create_connection(("127.0.0.1", impatient), timeout=10) as connection:
        connection.sendall(b"PUT /taken HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"PUT /taken/k HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n")
        for _ in range(12):
            connection.sendall(b"x")
            time.sleep(0.1)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
