"""The clients that people have work with the bucket, many at once, and leave nothing behind."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import obstore
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from reattach.api.bucket import Operation
from reattach.fixtures.bucket import BucketServer
from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.processes import Launcher, wait_for
from test_runner.regress.import_bucket_raw import Raw, obstore_client

KEYS = ["plain", "/leading", "a//b", "sp ace+plus", "per%25cent", "ümläut/☃", "quo'te\"<&>", "x=1&y=2?z#f"]


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 3 * 1024 * 1024])
def test_boto3_defaults(bucket_server: BucketServer, size: int) -> None:
    """Chunked uploads with checksums in trailers, which are given back and verified by the client."""
    client = bucket_server.client("boto3")
    client.create_bucket(Bucket="boto3-defaults")
    content = os.urandom(size)
    for key in KEYS:
        written = client.put_object(Bucket="boto3-defaults", Key=key, Body=content, Metadata={"a": "b"})
        assert written["ETag"] == f'"{hashlib.md5(content).hexdigest()}"'
        read = client.get_object(Bucket="boto3-defaults", Key=key)
        assert read["Body"].read() == content
        assert read["Metadata"] == {"a": "b"}
        assert read["ChecksumCRC32"] == written["ChecksumCRC32"]
    listed = client.list_objects_v2(Bucket="boto3-defaults")
    assert sorted(entry["Key"] for entry in listed["Contents"]) == sorted(KEYS)
    client.delete_objects(Bucket="boto3-defaults", Delete={"Objects": [{"Key": key} for key in KEYS]})
    assert "Contents" not in client.list_objects_v2(Bucket="boto3-defaults")


def test_boto3_multipart(bucket_server: BucketServer, tmp_path: Path) -> None:
    client = bucket_server.client("boto3")
    client.create_bucket(Bucket="boto3-multipart")
    content = os.urandom(12 * 1024 * 1024 + 7)
    (tmp_path / "up").write_bytes(content)
    config = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    client.upload_file(str(tmp_path / "up"), "boto3-multipart", "k", Config=config)
    head = client.head_object(Bucket="boto3-multipart", Key="k")
    assert (head["ContentLength"], head["ETag"][-3:]) == (len(content), '-3"')
    client.download_file("boto3-multipart", "k", str(tmp_path / "down"), Config=config)
    assert (tmp_path / "down").read_bytes() == content
    client.copy({"Bucket": "boto3-multipart", "Key": "k"}, "boto3-multipart", "copy", Config=config)
    assert client.get_object(Bucket="boto3-multipart", Key="copy")["Body"].read() == content


@pytest.mark.parametrize("signature", ["s3v4", "s3"])
def test_presigned_urls(bucket_server: BucketServer, signature: str) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=bucket_server.endpoint,
        region_name=bucket_server.region,
        aws_access_key_id=f"presigned-{signature}",
        aws_secret_access_key="secret",
        config=Config(signature_version=signature),
    )
    client.create_bucket(Bucket="presigned")
    client.put_object(Bucket="presigned", Key="k y", Body=b"content")
    url = client.generate_presigned_url("get_object", Params={"Bucket": "presigned", "Key": "k y"})
    raw = Raw(bucket_server.port, signed=False)
    assert raw("GET", url.removeprefix(bucket_server.endpoint)).body == b"content"
    raw.close()
    [entry] = bucket_server.log.where(
        Operation.GET_OBJECT, bucket="presigned", client=f"presigned-{signature}"
    )
    assert entry.key == "k y"


@pytest.mark.parametrize("sign", [True, False], ids=["signed", "anonymous"])
def test_obstore(bucket_server: BucketServer, sign: bool) -> None:
    bucket_server.create_bucket("obstore")
    client = obstore_client(bucket_server, "obstore", sign=sign)
    content = os.urandom(9 * 1024 * 1024)
    for key in ("plain", "a/b c+d", "ümläut/☃"):
        obstore.put(client, key, b"small")
        assert bytes(obstore.get(client, key).bytes()) == b"small"
        assert obstore.head(client, key)["size"] == 5
    obstore.put(client, "large", content, chunk_size=5 << 20)
    assert bytes(obstore.get(client, "large").bytes()) == content
    ranges = obstore.get_ranges(
        client, "large", starts=[0, 5 << 20, len(content) - 5], ends=[9, (5 << 20) + 3, len(content)]
    )
    assert [bytes(part) for part in ranges] == [content[:9], content[5 << 20 : (5 << 20) + 3], content[-5:]]
    assert bytes(obstore.get(client, "plain", options={"range": {"suffix": 2}}).bytes()) == b"ll"
    with pytest.raises(FileNotFoundError):
        obstore.head(client, "missing")
    listed = obstore.list_with_delimiter(client)
    assert {entry["path"] for entry in listed["objects"]} >= {"plain", "large"}
    assert set(listed["common_prefixes"]) == {"a", "ümläut"}
    obstore.copy(client, "plain", "copied")
    obstore.delete(client, ["plain", "a/b c+d", "copied", "large"])
    assert [entry["path"] for page in obstore.list(client) for entry in page] == ["ümläut/☃"]
    obstore.delete(client, "ümläut/☃")


def test_wrong_checksum_is_refused(bucket_server: BucketServer) -> None:
    client = bucket_server.client()
    client.create_bucket(Bucket="wrong-checksum")
    with pytest.raises(ClientError, match="BadDigest"):
        client.put_object(Bucket="wrong-checksum", Key="k", Body=b"x", ChecksumSHA256="A" * 43 + "=")


def test_twenty_thousand_objects(bucket_server: BucketServer, tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / f"{number:04}").touch()
    (tmp_path / "0500").write_bytes(b"found")
    for directory in range(20):
        preloaded = bucket_server.preload(tmp_path, "twenty-thousand", f"p/{directory:02}")
        assert (preloaded.objects, preloaded.bytes) == (1000, 5)
    client = obstore_client(bucket_server, "twenty-thousand")
    paths = [entry["path"] for page in obstore.list(client) for entry in page]
    assert paths == [f"p/{d:02}/{n:04}" for d in range(20) for n in range(1000)]
    assert len(obstore.list_with_delimiter(client, "p")["common_prefixes"]) == 20
    assert bucket_server.get("twenty-thousand", "p/07/0500") == b"found"
    pages = bucket_server.log.where(Operation.LIST_OBJECTS_V2, bucket="twenty-thousand", prefix="")
    assert len(pages) == 21
    slowest = max(entry.ended - entry.started for entry in pages if entry.ended)
    assert slowest < 0.25, "a page must not cost what the bucket costs"


def test_two_hundred_connections(bucket_server: BucketServer) -> None:
    """200 clients write and read their own objects at the same time, and none sees an error."""
    bucket_server.create_bucket("two-hundred")

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", bucket_server.port)
        content = bytes([number]) * (20_000 + number)
        for attempt in range(5):
            target = f"/two-hundred/{number}/{attempt}"
            head = f"PUT {target} HTTP/1.1\r\nHost: b\r\nContent-Length: {len(content)}\r\n\r\n"
            writer.write(head.encode() + content)
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            writer.write(f"GET {target} HTTP/1.1\r\nHost: b\r\nRange: bytes=5-\r\n\r\n".encode())
            assert b" 206 " in await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(len(content) - 5) == content[5:]
        writer.close()

    async def all_of_them() -> None:
        await asyncio.wait_for(asyncio.gather(*(client(number) for number in range(200))), 20)

    asyncio.run(all_of_them())
    log = bucket_server.log.where(bucket="two-hundred")
    assert len(log) == 1 + 200 * 5 * 2
    assert not log.failed
    assert [entry.seq for entry in log] == sorted(entry.seq for entry in log)


def test_replaced_object_goes_out_whole(bucket_server: BucketServer) -> None:
    """Who began to read an object gets that object, though it is replaced while its bytes are on the way."""
    bucket_server.create_bucket("replaced")
    old = os.urandom(32 << 20)
    bucket_server.put("replaced", "k", old)
    with socket.create_connection(("127.0.0.1", bucket_server.port), timeout=10) as sock:
        sock.sendall(b"GET /replaced/k HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")
        first = sock.recv(1024)
        bucket_server.put("replaced", "k", b"new")
        rest = b"".join(iter(lambda: sock.recv(1 << 20), b""))
    assert (first + rest).partition(b"\r\n\r\n")[2] == old
    assert bucket_server.get("replaced", "k") == b"new"


def test_half_an_upload_is_no_object(bucket_server: BucketServer) -> None:
    """A client that is killed in the middle of its upload leaves nothing, and is seen in the log."""
    bucket_server.create_bucket("half-upload")
    with socket.create_connection(("127.0.0.1", bucket_server.port)) as sock:
        sock.sendall(b"PUT /half-upload/k HTTP/1.1\r\nHost: b\r\nContent-Length: 1000\r\n\r\n" + b"x" * 400)
        wait_for(
            lambda: bucket_server.log.where(key="k", bucket="half-upload"),
            what="the upload to begin",
            timeout=5,
        )
    entry = wait_for(
        lambda: next((e for e in bucket_server.log.where(key="k", bucket="half-upload") if e.ended), None),
        what="the upload to end",
        timeout=5,
    )
    assert (entry.status, entry.bytes_in, entry.whole) == (0, 400, False)
    with pytest.raises(FileNotFoundError):
        bucket_server.get("half-upload", "k")


def test_client_killed_in_the_middle_of_a_download(bucket_server: BucketServer) -> None:
    bucket_server.create_bucket("half-download")
    bucket_server.put("half-download", "k", bytes(64 << 20))
    code = (
        "import http.client, os\n"
        f"c = http.client.HTTPConnection('127.0.0.1', {bucket_server.port})\n"
        "c.request('GET', '/half-download/k'); c.getresponse().read(1000); os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], timeout=20, check=False)
    assert killed.returncode == -9
    entry = wait_for(
        lambda: next((e for e in bucket_server.log.where(bucket="half-download").reads if e.ended), None),
        what="the bucket to see that the client is gone",
        timeout=5,
    )
    assert not entry.whole
    assert 0 < entry.bytes_out < 64 << 20


@pytest.fixture
def own_server(
    launcher: Launcher, port_distributor: PortDistributor, tmp_path: Path
) -> Iterator[BucketServer]:
    server = BucketServer(launcher, port_distributor.get_port(), tmp_path / "spool")
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_ended_server_leaves_nothing_behind(own_server: BucketServer, how: str) -> None:
    own_server.create_bucket("gone")
    own_server.put("gone", "large", bytes(8 << 20))
    started = time.monotonic()
    own_server.stop() if how == "stop" else own_server.kill()
    assert time.monotonic() - started < 3
    assert own_server.process.returncode == (0 if how == "stop" else -9)
    assert [path.name for path in own_server.process.log_path.parent.iterdir()] == ["witness.log"]
    own_server.start()
    with pytest.raises(FileNotFoundError):
        own_server.get("gone", "large")


def test_port_in_use_is_one_line(own_server: BucketServer) -> None:
    address = f"127.0.0.1:{own_server.port}"
    second = subprocess.run(
        [sys.executable, "-m", "reattach.witness", "--listen", address],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert second.returncode == 1
    assert second.stderr == f"witness: cannot listen on {address}: Address already in use\n"


def test_changed_preloaded_file_is_an_error(bucket_server: BucketServer, tmp_path: Path) -> None:
    """Never a mix of old and new bytes under the old ETag."""
    (tmp_path / "f").write_bytes(b"before")
    bucket_server.preload(tmp_path, "changed-file", "p")
    assert bucket_server.get("changed-file", "p/f") == b"before"
    (tmp_path / "f").write_bytes(b"after!")
    os.utime(tmp_path / "f", (1, 1))
    raw = Raw(bucket_server.port)
    answer = raw("GET", "/changed-file/p/f")
    raw.close()
    assert (answer.status, answer.error) == (500, "InternalError")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"PUT /a/b HTTP/1.1\r\nHost: b\r\nContent-Length: 999999999999\r\n\r\n", 400),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1", 431),
        (b"GET /b%FF/c HTTP/1.1\r\nHost: b\r\n\r\n", 400),
        (b"PUT /a/b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)
def test_bad_requests_are_answered(bucket_server: BucketServer, request_bytes: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", bucket_server.port), timeout=5) as sock:
        sock.sendall(request_bytes)
        answer = sock.recv(4096)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


def test_chunked_transfer_and_pipelining(bucket_server: BucketServer) -> None:
    bucket_server.create_bucket("chunked")
    with socket.create_connection(("127.0.0.1", bucket_server.port), timeout=5) as sock:
        sock.sendall(
            b"PUT /chunked/a HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        )
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(
            b"abcGET /chunked/a HTTP/1.1\r\nHost: b\r\n\r\n"
            b"PUT /chunked/b HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nde\r\n1\r\nf\r\n0\r\n\r\n"
        )
        answers = b"".join(iter(lambda: sock.recv(4096), b""))
    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert b"\r\n\r\nabcHTTP/1.1" in answers
    assert bucket_server.get("chunked", "b") == b"def"


@pytest.mark.parametrize(
    ("head", "stays"),
    [
        (b"GET /keep/k HTTP/1.1\r\nHost: b\r\n\r\n", True),
        (b"GET /keep/k HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n", False),
        (b"GET /keep/k HTTP/1.0\r\n\r\n", False),
    ],
)
def test_connection_stays_if_the_client_wants(bucket_server: BucketServer, head: bytes, stays: bool) -> None:
    bucket_server.create_bucket("keep")
    bucket_server.put("keep", "k", b"content")
    with socket.create_connection(("127.0.0.1", bucket_server.port), timeout=0.5 if stays else 5) as sock:
        sock.sendall(head)
        answer = sock.recv(4096)
        assert answer.endswith(b"content")
        assert (b"Connection: close" in answer) is not stays
        if stays:
            sock.sendall(head)
            assert sock.recv(4096).endswith(b"content")
        else:
            assert sock.recv(4096) == b""
