"""The lean bucket answers as stock moto does: status, headers that clients read, bodies, errors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reattach.fixtures.bucket import BucketServer
from reattach.fixtures.ports import PortDistributor
from test_runner.regress.import_bucket_raw import Answer, Raw, path

Script = Callable[[Callable[..., Answer], str], None]
"""Sends requests with its first argument; the second is the name of a bucket of its own, which exists."""

CONTENT = bytes(range(256)) * 8
MIB_5 = 5 << 20


@pytest.fixture(scope="module")
def moto(port_distributor: PortDistributor) -> Iterator[Raw]:
    from moto.server import ThreadedMotoServer

    port = port_distributor.get_port()
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    raw = Raw(port)
    yield raw
    raw.close()
    server.stop()


@pytest.fixture
def lean(bucket_server: BucketServer) -> Iterator[Raw]:
    raw = Raw(bucket_server.port)
    yield raw
    raw.close()


def reads(send: Callable[..., Answer], bucket: str) -> None:
    send(
        "PUT",
        path(bucket, "a/b.bin"),
        CONTENT,
        Content_Type="text/plain",
        x_amz_meta_Colour="blue",
        Cache_Control="no-store",
    )
    send("PUT", path(bucket, "empty"), b"")
    for method in ("GET", "HEAD"):
        for key in ("a/b.bin", "empty", "missing", "a", "a/", "a/b.bin/"):
            send(method, path(bucket, key))
        send(method, path("no-such-bucket", "a"))
        for byte_range in (
            "bytes=0-0",
            "bytes=0-",
            "bytes=5-9",
            "bytes=2040-5000",
            "bytes=2047-2047",
            "bytes=2047-",
            "bytes=-1",
            "bytes=-2048",
            "bytes=-5000",
            "bytes=-0",
            "bytes=2048-",
            "bytes=2048-2050",
            "bytes=9999-99999",
            "bytes=9-5",
            "bytes=0-2047",
            "bytes=0-3,7-9",
            "bytes=a-b",
            "bytes=-",
        ):
            send(method, path(bucket, "a/b.bin"), Range=byte_range)
    send("GET", f"{path(bucket, 'a/b.bin')}?response-content-type=x/y&response-cache-control=private")


def conditions(send: Callable[..., Answer], bucket: str) -> None:
    etag = send("PUT", path(bucket, "k"), b"one").headers["etag"]
    past, future = "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
    for headers in (
        {"If_Match": etag},
        {"If_Match": etag.strip('"')},
        {"If_Match": '"other"'},
        {"If_None_Match": etag},
        {"If_None_Match": '"other"'},
        {"If_Modified_Since": past},
        {"If_Modified_Since": future},
        {"If_Unmodified_Since": past},
        {"If_Unmodified_Since": future},
    ):
        send("GET", path(bucket, "k"), **headers)
    send("HEAD", path(bucket, "k"), If_None_Match=etag)
    send("PUT", path(bucket, "k"), b"two", If_None_Match="*")
    send("PUT", path(bucket, "new"), b"two", If_None_Match="*")
    send("PUT", path(bucket, "k"), b"two", If_Match='"other"')
    send("PUT", path(bucket, "k"), b"two", If_Match=etag)
    send("GET", path(bucket, "k"))
    send("DELETE", path(bucket, "k"), If_Match='"other"')
    send("GET", path(bucket, "k"))


KEYS = [
    "/lead",
    "//x//y",
    "a",
    "a/",
    "a/1",
    "a/2",
    "a/b/c",
    "a/b/d",
    "a.b",
    "b c+d",
    "é/ü",
    "per%cent",
    "q?x=1&y",
    "z/",
    "tilde~",
    "quote'\"<>",
]


def listings(send: Callable[..., Answer], bucket: str) -> None:
    for key in KEYS:
        send("PUT", path(bucket, key), key.encode())
        send("GET", path(bucket, key))
    listing = f"/{bucket}?list-type=2"
    for query in (
        "",
        "&encoding-type=url",
        "&fetch-owner=true",
        "&prefix=a",
        "&prefix=a/&delimiter=/",
        "&delimiter=/",
        "&delimiter=/&encoding-type=url",
        "&delimiter=b",
        "&prefix=a/b/&delimiter=/",
        "&prefix=none",
        "&max-keys=0",
        "&max-keys=3",
        "&max-keys=3&delimiter=/",
        "&start-after=a/1",
        "&start-after=a/1&delimiter=/",
        "&start-after=zzz",
        "&prefix=a/&start-after=a/1",
        "&prefix=%2F",
        "&prefix=%C3%A9",
        "&continuation-token=",
        "&max-keys=1000",
        "&prefix=a/&delimiter=%2F&encoding-type=url&start-after=a/1&max-keys=1",
    ):
        send("GET", listing + query)
    for query in ("", "?prefix=a", "?prefix=a&max-keys=2", "?marker=a/1", "?encoding-type=url"):
        send("GET", f"/{bucket}{query}")
    send("GET", "/no-such-bucket?list-type=2")
    send("GET", "/no-such-bucket")


def listing_pages(send: Callable[..., Answer], bucket: str) -> None:
    for key in KEYS:
        send("PUT", path(bucket, key), b"")
    for query in ("max-keys=2", "max-keys=3&delimiter=/", "max-keys=1&prefix=a/&delimiter=/"):
        target = f"/{bucket}?list-type=2&{query}"
        answer = send("GET", target)
        pages = 1
        while answer.find("IsTruncated") == "true":
            token = answer.find("NextContinuationToken").replace("=", "%3D").replace("+", "%2B")
            answer = send("GET", f"{target}&continuation-token={token}")
            pages += 1
        assert pages > 1


def buckets(send: Callable[..., Answer], bucket: str) -> None:
    for name in (bucket, f"{bucket}-2"):
        send("PUT", f"/{name}")
        send("HEAD", f"/{name}")
    send("PUT", "/ab")
    send("HEAD", "/no-such-bucket")
    send("GET", f"/{bucket}?location")
    send("PUT", path(bucket, "k"), b"1")
    send("DELETE", f"/{bucket}")
    send("DELETE", path(bucket, "k"))
    send("DELETE", f"/{bucket}")
    send("DELETE", f"/{bucket}")
    send("PUT", path(bucket, "k"), b"1")
    send("DELETE", f"/{bucket}-2")
    region = "<LocationConstraint>eu-west-1</LocationConstraint>"
    configuration = f"<CreateBucketConfiguration>{region}</CreateBucketConfiguration>"
    send("PUT", f"/{bucket}-3", configuration.encode())
    send("HEAD", f"/{bucket}-3")
    send("GET", f"/{bucket}-3?location")


def deletes(send: Callable[..., Answer], bucket: str) -> None:
    for key in ("a", "b", "c & d", "e"):
        send("PUT", path(bucket, key), b"1")
    send("DELETE", path(bucket, "a"))
    send("DELETE", path(bucket, "a"))
    send("GET", path(bucket, "a"))
    send("DELETE", path("no-such-bucket", "a"))
    many = "".join(f"<Object><Key>{key}</Key></Object>" for key in ("b", "c &amp; d", "none"))
    send("POST", f"/{bucket}?delete", f"<Delete>{many}</Delete>".encode())
    send("GET", f"/{bucket}?list-type=2")


def copies(send: Callable[..., Answer], bucket: str) -> None:
    source = send("PUT", path(bucket, "from é"), CONTENT, Content_Type="text/plain", x_amz_meta_a="1")
    name = path(bucket, "from é")
    send("PUT", path(bucket, "to"), x_amz_copy_source=name)
    send("GET", path(bucket, "to"))
    send(
        "PUT",
        path(bucket, "to"),
        x_amz_copy_source=name.removeprefix("/"),
        x_amz_metadata_directive="REPLACE",
        x_amz_meta_b="2",
    )
    send("GET", path(bucket, "to"))
    send("PUT", path(bucket, "to"), x_amz_copy_source=path(bucket, "none"))
    send("PUT", path(bucket, "to"), x_amz_copy_source="/no-such-bucket/x")
    send("PUT", name, x_amz_copy_source=name)
    send("PUT", path("no-such-bucket", "to"), x_amz_copy_source=name)
    send(
        "PUT",
        path(bucket, "to"),
        x_amz_copy_source=name,
        x_amz_copy_source_if_none_match=source.headers["etag"],
    )


def parts_xml(*parts: tuple[int, bytes]) -> bytes:
    inner = "".join(
        f'<Part><PartNumber>{number}</PartNumber><ETag>"{hashlib.md5(content).hexdigest()}"</ETag></Part>'
        for number, content in parts
    )
    return f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>".encode()


def multipart(send: Callable[..., Answer], bucket: str) -> None:
    key = path(bucket, "up/load")
    one, two = b"1" * MIB_5, b"2" * 10
    upload = send("POST", f"{key}?uploads", Content_Type="x/y", x_amz_meta_m="n").find("UploadId")
    send("PUT", f"{key}?partNumber=2&uploadId={upload}", two)
    send("PUT", f"{key}?partNumber=1&uploadId={upload}", b"overwritten")
    send("PUT", f"{key}?partNumber=1&uploadId={upload}", one)
    send("PUT", f"{key}?partNumber=10001&uploadId={upload}", two)
    send("GET", f"{key}?uploadId={upload}")
    send("GET", f"{key}?uploadId={upload}&max-parts=1")
    send("GET", f"/{bucket}?uploads")
    send("GET", key)
    send("POST", f"{key}?uploadId={upload}", parts_xml((1, b"wrong"), (2, two)))
    send("POST", f"{key}?uploadId={upload}", parts_xml((1, one), (3, two)))
    send("POST", f"{key}?uploadId={upload}", b"<CompleteMultipartUpload></CompleteMultipartUpload>")
    send("POST", f"{key}?uploadId={upload}", parts_xml((1, one), (2, two)))
    send("POST", f"{key}?uploadId={upload}", parts_xml((1, one), (2, two)))
    send("HEAD", key)
    send("GET", key, Range=f"bytes={MIB_5 - 2}-{MIB_5 + 1}")
    small = send("POST", f"{key}?uploads").find("UploadId")
    send("PUT", f"{key}?partNumber=1&uploadId={small}", two)
    send("PUT", f"{key}?partNumber=2&uploadId={small}", two)
    send("POST", f"{key}?uploadId={small}", parts_xml((1, two), (2, two)))
    send("DELETE", f"{key}?uploadId={small}")
    send("DELETE", f"{key}?uploadId={small}")
    copied = send("POST", f"{path(bucket, 'copied')}?uploads").find("UploadId")
    target = f"{path(bucket, 'copied')}?partNumber=1&uploadId={copied}"
    send("PUT", target, x_amz_copy_source=key, x_amz_copy_source_range="bytes=5-14")
    send("POST", f"{path(bucket, 'copied')}?uploadId={copied}", parts_xml((1, one[5:15])))
    send("GET", path(bucket, "copied"))


def checksums(send: Callable[..., Answer], bucket: str) -> None:
    key = path(bucket, "k")
    send("PUT", key, b"hello world", x_amz_sdk_checksum_algorithm="CRC32", x_amz_checksum_crc32="DUoRhQ==")
    for headers in (
        {},
        {"x_amz_checksum_mode": "ENABLED"},
        {"x_amz_checksum_mode": "ENABLED", "Range": "bytes=0-3"},
    ):
        send("GET", key, **headers)
        send("HEAD", key)
    send("PUT", key, b"hello world", x_amz_sdk_checksum_algorithm="SHA256")
    send("GET", key, x_amz_checksum_mode="ENABLED")
    chunked = b"5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n"
    send(
        "PUT",
        key,
        chunked,
        Content_Encoding="aws-chunked",
        x_amz_content_sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        x_amz_decoded_content_length="11",
        x_amz_trailer="x-amz-checksum-crc32",
        x_amz_sdk_checksum_algorithm="CRC32",
    )
    send("GET", key, x_amz_checksum_mode="ENABLED")
    signed = (
        b"5;chunk-signature=aa\r\nhello\r\n6;chunk-signature=bb\r\n world\r\n0;chunk-signature=cc\r\n\r\n"
    )
    send(
        "PUT",
        key,
        signed,
        x_amz_content_sha256="STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        x_amz_decoded_content_length="11",
    )
    send("GET", key)


def by_moto(send: Callable[..., Answer], bucket: str) -> None:
    """What the lean side hands on: tags, ACLs, versions."""
    key = path(bucket, "k")
    send("PUT", key, b"plain")
    tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
    send("PUT", f"{key}?tagging", tags)
    send("GET", f"{key}?tagging")
    send("GET", key)
    send("PUT", key, b"again")
    send("GET", f"{key}?tagging")
    send("PUT", path(bucket, "t"), b"tagged", x_amz_tagging="x=y")
    send("GET", path(bucket, "t"), Range="bytes=1-2")
    send("GET", f"/{bucket}?list-type=2")
    send("GET", f"/{bucket}?versioning")
    send(
        "PUT",
        f"/{bucket}?versioning",
        b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
    )
    send("PUT", key, b"version 2")
    send("GET", key)
    send("DELETE", key)
    send("GET", key)
    send("GET", f"{key}?acl")
    send("GET", f"/{bucket}?policy")


SCRIPTS: list[Script] = [
    reads,
    conditions,
    listings,
    listing_pages,
    buckets,
    deletes,
    copies,
    multipart,
    checksums,
    by_moto,
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__.replace("_", "-"))
def test_answers_as_moto_does(script: Script, lean: Raw, moto: Raw) -> None:
    bucket = f"against-moto-{script.__name__.replace('_', '-')}"

    def record(raw: Raw) -> list[tuple[str, object]]:
        answers: list[tuple[str, object]] = []

        def send(method: str, target: str, body: bytes | None = None, **headers: str) -> Answer:
            answer = raw(method, target, body, **headers)
            shown = target.partition("uploadId")[0].partition("token")[0]
            answers.append((f"{method} {shown} {headers}", answer.comparable()))
            return answer

        raw("PUT", f"/{bucket}")
        script(send, bucket)
        return answers

    ours, theirs = record(lean), record(moto)
    assert len(ours) == len(theirs)
    different = [
        f"{what}\n  lean {mine}\n  moto {other}"
        for (what, mine), (_, other) in zip(ours, theirs, strict=True)
        if mine != other
    ]
    assert not different, "\n".join(different)


def test_etag_of_preloaded_objects_is_stable_and_no_md5(bucket_server: BucketServer, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(CONTENT)
    raw = Raw(bucket_server.port)
    etags = set()
    for prefix in ("one", "one"):
        bucket_server.preload(tmp_path, "against-moto-preload", prefix)
        etags.add(raw("HEAD", "/against-moto-preload/one/f").headers["etag"])
    raw.close()
    assert len(etags) == 1
    assert etags.pop().endswith('-1"')


def test_where_s3_is_followed_rather_than_moto(lean: Raw) -> None:
    """moto answers these with 500, or takes what S3 refuses."""
    lean("PUT", "/not-as-moto")
    key = "/not-as-moto/k"
    upload = lean("POST", f"{key}?uploads").find("UploadId")
    lean("PUT", f"{key}?partNumber=1&uploadId={upload}", b"1" * MIB_5)
    lean("PUT", f"{key}?partNumber=2&uploadId={upload}", b"2" * MIB_5)
    wrong_order = parts_xml((2, b"2" * MIB_5), (1, b"1" * MIB_5))
    refused = [
        (lean("GET", "/not-as-moto?list-type=2&max-keys=many"), 400, "InvalidArgument"),
        (lean("GET", "/not-as-moto?list-type=2&continuation-token=%25%25"), 400, "InvalidArgument"),
        (lean("PUT", f"{key}?partNumber=1&uploadId=nope", b"x"), 404, "NoSuchUpload"),
        (lean("PUT", f"{key}?partNumber=0&uploadId={upload}", b"x"), 400, "InvalidArgument"),
        (lean("POST", f"{key}?uploadId={upload}", b"no xml"), 400, "MalformedXML"),
        (lean("POST", f"{key}?uploadId={upload}", wrong_order), 400, "InvalidPartOrder"),
        (lean("POST", "/not-as-moto?delete", b"<Delete></Delete>"), 400, "MalformedXML"),
        (lean("PUT", key, b"x", Content_MD5="AAAA"), 400, "InvalidDigest"),
        (lean("PUT", key, b"x", Content_MD5="AAAAAAAAAAAAAAAAAAAAAA=="), 400, "BadDigest"),
        (lean("PUT", key, b"x", x_amz_checksum_crc32="AAAAAA=="), 400, "BadDigest"),
        (lean("PUT", key, b"x", x_amz_checksum_sha256="AAAAAA=="), 400, "BadDigest"),
        (lean("PUT", "/not-as-moto/%FF", b"x"), 400, "InvalidURI"),
        (lean("PATCH", key), 501, "NotImplemented"),
    ]
    for number, (answer, status, code) in enumerate(refused):
        assert (answer.status, answer.error) == (status, code), number
    assert lean("GET", key).status == 404, "a refused upload left an object"
    assert lean("HEAD", key, If_Match='"x"').status == 404


def test_anonymous_clients_may_read(lean: Raw, bucket_server: BucketServer) -> None:
    """stock moto lets them write but not read; here the bucket is open."""
    anonymous = Raw(bucket_server.port, signed=False)
    anonymous("PUT", "/anonymous")
    anonymous("PUT", "/anonymous/k", b"1")
    assert anonymous("GET", "/anonymous/k").body == b"1"
    anonymous.close()
