"""The bucket's clients against a directory and against an S3 server that fails in every way."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pytest

from reattach.api.bucket import Operation
from reattach.api.location import AwsS3, ImportLocation, LocalFs
from reattach.fixtures.bucket.faults import Faults
from reattach.fixtures.bucket.server import BucketServer
from reattach.pageserver.import_pgdata import bucket as bucket_module
from reattach.pageserver.import_pgdata.bucket import Bucket, RangeRead, open_bucket
from reattach.pageserver.import_pgdata.bucket_object import BucketObject
from reattach.pageserver.import_pgdata.config import ImportConfig
from reattach.pageserver.import_pgdata.errors import ImportFailed, ObjectChanged, ObjectError, ObjectMissing

T = TypeVar("T")

CONTENT = random.Random(1).randbytes(3 * 8192)
PATH = "pgdata/base/5/16384"
PREFIX = "imports/a b%2Fc"
KEY = f"{PREFIX}/{PATH}"


@dataclass
class Place:
    """A bucket, and a way to put objects there."""

    location: ImportLocation
    config: ImportConfig
    put: Callable[[str, bytes], None]
    read: list[int]

    def run(self, use: Callable[[Bucket], Awaitable[T]], timeout: float = 20) -> T:
        async def body() -> T:
            return await asyncio.wait_for(
                use(open_bucket(self.location, self.config, self.read.append)), timeout
            )

        return asyncio.run(body())

    def listed(self, path: str = PATH) -> BucketObject:
        prefix = path.rpartition("/")[0]
        return next(each for each in self.run(lambda b: b.list_tree(prefix)) if each.path == path)

    def read_range(self, source: BucketObject, start: int, end: int) -> bytes:
        return self.run(lambda b: b.map_ranges([RangeRead(source, start, end)], bytes))


@pytest.fixture
def s3_place(bucket_server: BucketServer, monkeypatch: pytest.MonkeyPatch) -> Place:
    name = f"client-{uuid.uuid4().hex}"
    client = bucket_server.client()
    client.create_bucket(Bucket=name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", bucket_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bucket_server.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    return Place(
        ImportLocation(AwsS3("eu-central-1", name, f"/{PREFIX}/")),
        ImportConfig(aws_endpoint_url=bucket_server.endpoint, stall_timeout=0.3),
        lambda path, content: void(client.put_object(Bucket=name, Key=f"{PREFIX}/{path}", Body=content)),
        [],
    )


@pytest.fixture
def local_place(tmp_path: Path) -> Place:
    def put(path: str, content: bytes) -> None:
        file = tmp_path / "bucket" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        before = file.stat().st_mtime_ns if file.exists() else 0
        file.write_bytes(content)
        if file.stat().st_mtime_ns == before:
            # The clock of the file system did not tick yet.
            os.utime(file, ns=(before, before + 1))

    return Place(ImportLocation(LocalFs(str(tmp_path / "bucket"))), ImportConfig(), put, [])


@pytest.fixture(params=["s3", "local"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield request.getfixturevalue(f"{request.param}_place")


@pytest.fixture(autouse=True)
def quick_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    async def back_off(failures: int) -> None:
        await asyncio.sleep(0.01 if failures else 0)

    monkeypatch.setattr(bucket_module, "back_off", back_off)


def void(_: object) -> None:
    pass


def test_listing_finds_everything_below_a_directory_and_nothing_beside_it(place: Place) -> None:
    for path in (
        "pgdata/base/1/2",
        "pgdata/base/1/3_fsm",
        "pgdata/base/16/2",
        "pgdata/base2/1",
        "status/pgdata",
    ):
        place.put(path, path.encode())
    found = place.run(lambda b: b.list_tree("pgdata/base"))
    assert sorted((each.path, each.size) for each in found) == [
        ("pgdata/base/1/2", 15),
        ("pgdata/base/1/3_fsm", 19),
        ("pgdata/base/16/2", 16),
    ]
    assert [each.path for each in place.run(lambda b: b.list_tree("pgdata/base/1"))] != []
    assert place.run(lambda b: b.list_tree("pgdata/pg_xact")) == []


def test_ranges_and_whole_objects(place: Place) -> None:
    place.put(PATH, CONTENT)
    source = place.listed()
    assert source.size == len(CONTENT)
    assert place.read_range(source, 0, 8192) == CONTENT[:8192]
    assert place.read_range(source, 8192, 24576) == CONTENT[8192:]
    place.read.clear()
    assert place.run(lambda b: b.read_object(PATH)) == CONTENT
    assert sum(place.read) == len(CONTENT)
    many = [RangeRead(source, i * 4096, (i + 1) * 4096) for i in range(6)]
    assert place.run(lambda b: b.map_ranges(many, bytes)) == CONTENT
    assert place.run(lambda b: b.map_ranges([], bytes)) == b""


def test_missing_objects_are_named(place: Place) -> None:
    """I11"""
    for use in (
        lambda b: b.read_object(PATH),
        lambda b: b.map_ranges([RangeRead(BucketObject(PATH, 8192, '"x"'), 0, 8192)], bytes),
    ):
        with pytest.raises(ObjectMissing, match=PATH):
            place.run(use)


@pytest.mark.parametrize("content", [CONTENT[::-1], CONTENT[:8192], CONTENT[:8000], CONTENT + b"x", b""])
def test_an_object_that_changes_after_it_was_listed_is_an_error(place: Place, content: bytes) -> None:
    """I8: never a silent mix, even if the size is the same."""
    place.put(PATH, CONTENT)
    source = place.listed()
    place.put(PATH, content)
    with pytest.raises(ObjectChanged, match=PATH):
        place.read_range(source, 8192, 16384)
    with pytest.raises(ObjectChanged, match=PATH):
        place.run(lambda b: b.read_listed(source))


def test_the_mark_of_content_changes_with_the_content_only(place: Place) -> None:
    place.put(PATH, CONTENT)
    first = place.listed()
    assert place.listed() == first
    place.put(PATH, CONTENT[::-1])
    assert place.listed().version != first.version
    assert place.listed().size == first.size


def test_a_listing_of_thousands_goes_on_where_it_failed(
    s3_place: Place, bucket_server: BucketServer, bucket_faults: Faults, tmp_path: Path
) -> None:
    paths = {f"pgdata/base/5/{i}" for i in range(2100)}
    (tmp_path / "pgdata/base/5").mkdir(parents=True)
    for path in paths:
        (tmp_path / path).touch()
    place = s3_place.location.place
    assert isinstance(place, AwsS3)
    bucket_server.preload(tmp_path, place.bucket, PREFIX)
    fault = bucket_faults.on(Operation.LIST_OBJECTS_V2, bucket=place.bucket, nth=2).slow_down()
    assert sorted(each.path for each in s3_place.run(lambda b: b.list_tree("pgdata/base"))) == sorted(paths)
    assert fault.matched == 4, "of three pages, only the failed one was asked for again"


FAULTS: dict[str, Callable[[Faults], object]] = {
    "throttled": lambda f: f.on(Operation.GET_OBJECT, key=KEY, times=3).slow_down(),
    "internal error": lambda f: f.on(Operation.GET_OBJECT, key=KEY, times=2).status(500),
    "too many requests": lambda f: f.on(Operation.GET_OBJECT, key=KEY, times=2).status(429),
    "reset": lambda f: f.on(Operation.GET_OBJECT, key=KEY, times=2).reset(),
    "reset within the body": lambda f: f.on(Operation.GET_OBJECT, key=KEY, times=2).reset(after=5000),
    "truncated": lambda f: f.on(Operation.GET_OBJECT, key=KEY, times=2).truncate(5000),
    "truncated, with a length that says so": lambda f: f.on(Operation.GET_OBJECT, key=KEY, times=2).truncate(
        5000, honest=True
    ),
    "stalled": lambda f: f.on(Operation.GET_OBJECT, key=KEY, times=1).stall(),
    "stalled within the body": lambda f: f.on(Operation.GET_OBJECT, key=KEY, times=1).stall(after=5000),
    "refused for a while": lambda f: f.on(Operation.GET_OBJECT, key=KEY, times=3).status(403),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_transient_faults_are_retried_and_the_bytes_are_right(
    s3_place: Place, bucket_faults: Faults, fault: str
) -> None:
    """I8, I10: a short body is never imported."""
    s3_place.put(PATH, CONTENT)
    source = s3_place.listed()
    FAULTS[fault](bucket_faults)
    assert s3_place.read_range(source, 8192, 24576) == CONTENT[8192:]
    bucket_faults.check()
    bucket_faults.finish(check=False)
    FAULTS[fault](bucket_faults)
    assert s3_place.run(lambda b: b.read_listed(source)) == CONTENT


@pytest.mark.parametrize("status", [401, 403, 400])
def test_refusals_end_after_a_few_attempts(s3_place: Place, bucket_faults: Faults, status: int) -> None:
    """I11: with the object's name and the store's reason."""
    s3_place.put(PATH, CONTENT)
    source = s3_place.listed()
    fault = bucket_faults.on(Operation.GET_OBJECT, key=KEY).status(status)
    with pytest.raises(ObjectError, match=rf"{PATH}: .*{status}"):
        s3_place.read_range(source, 0, 8192)
    assert fault.fired == bucket_module.REFUSALS


def test_a_refused_listing_ends(s3_place: Place, bucket_faults: Faults) -> None:
    """I11"""
    fault = bucket_faults.on(Operation.LIST_OBJECTS_V2).status(403)
    with pytest.raises(ObjectError, match=r"pgdata/base: .*403"):
        s3_place.run(lambda b: b.list_tree("pgdata/base"))
    assert fault.fired == bucket_module.REFUSALS


def test_a_store_without_ranges_is_refused(s3_place: Place, bucket_faults: Faults) -> None:
    """I11: it would never answer with what was asked for."""
    s3_place.put(PATH, CONTENT)
    source = s3_place.listed()
    bucket_faults.on(Operation.GET_OBJECT, key=KEY).ignore_range()
    with pytest.raises(ObjectError, match=PATH):
        s3_place.read_range(source, 8192, 16384)


def test_a_store_that_ignores_if_match_is_noticed(s3_place: Place, bucket_faults: Faults) -> None:
    """I8: the answer's own ETag counts."""
    s3_place.put(PATH, CONTENT)
    source = s3_place.listed()
    bucket_faults.on(Operation.GET_OBJECT, key=KEY).change_etag()
    with pytest.raises(ObjectChanged, match=PATH):
        s3_place.read_range(source, 0, 8192)


def test_cancelling_stops_retrying(s3_place: Place, bucket_faults: Faults) -> None:
    s3_place.put(PATH, CONTENT)
    bucket_faults.on(Operation.GET_OBJECT, key=KEY).status(500)

    async def use(bucket: Bucket) -> None:
        task = asyncio.create_task(bucket.read_object(PATH))
        await asyncio.wait([task], timeout=0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    s3_place.run(use)


def test_a_dangling_link_is_no_empty_file(local_place: Place, tmp_path: Path) -> None:
    local_place.put(PATH, CONTENT)
    (tmp_path / "bucket/pgdata/base/5/7").symlink_to("nowhere")
    with pytest.raises(ObjectError, match="pgdata/base/5/7: a symbolic link to nothing"):
        local_place.run(lambda b: b.list_tree("pgdata/base"))


def test_links_to_directories_are_followed(local_place: Place, tmp_path: Path) -> None:
    local_place.put("elsewhere/7", CONTENT)
    (tmp_path / "bucket/pgdata/pg_tblspc").mkdir(parents=True)
    (tmp_path / "bucket/pgdata/pg_tblspc/16400").symlink_to(tmp_path / "bucket/elsewhere")
    found = local_place.run(lambda b: b.list_tree("pgdata/pg_tblspc"))
    assert [each.path for each in found] == ["pgdata/pg_tblspc/16400/7"]


def test_a_directory_that_contains_itself_is_refused(local_place: Place, tmp_path: Path) -> None:
    local_place.put(PATH, CONTENT)
    (tmp_path / "bucket/pgdata/base/5/loop").symlink_to(tmp_path / "bucket/pgdata/base/5")
    with pytest.raises(ObjectError, match="nest too deep"):
        local_place.run(lambda b: b.list_tree("pgdata/base"))


def test_a_directory_that_vanishes_while_it_is_listed_is_no_empty_listing(
    local_place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """I8: the attempt is made again."""
    local_place.put(PATH, CONTENT)
    (tmp_path / "bucket/pgdata/base/6").mkdir()
    scandir = os.scandir

    def vanishing(path: Path) -> object:
        if path.name == "6":
            path.rmdir()
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", vanishing)
        assert [each.path for each in local_place.run(lambda b: b.list_tree("pgdata/base"))] == [PATH]


@pytest.mark.parametrize("name", ["base//x", "base/./x", "base/../x", "base/a\nb", "base/a\x7fb"])
def test_a_key_that_no_file_could_have_is_named(s3_place: Place, name: str) -> None:
    """I11: the client library cannot hold it, today or later."""
    s3_place.put(f"pgdata/{name}", b"junk")
    with pytest.raises(ObjectError, match="whose key no file could have") as caught:
        s3_place.run(lambda b: b.list_tree("pgdata/base"))
    assert json.dumps(name)[-3:-1] in str(caught.value).replace("\\u{7f}", "\\u007f")


@pytest.mark.parametrize("listing", [True, False], ids=["list", "get"])
def test_a_bucket_that_does_not_exist_is_named(s3_place: Place, listing: bool) -> None:
    """I11: it is not a status that has not come yet."""
    s3_place.location = ImportLocation(AwsS3("us-east-1", "no-such-bucket", "x"))
    with pytest.raises(ObjectError, match="there is no bucket no-such-bucket") as caught:
        if listing:
            s3_place.run(lambda b: b.list_tree("pgdata/base"))
        else:
            s3_place.run(lambda b: b.read_object("status/pgdata"))
    assert not isinstance(caught.value, ObjectMissing)


def test_a_refusal_names_bucket_and_region(s3_place: Place, bucket_faults: Faults) -> None:
    """I11"""
    fault = bucket_faults.on(Operation.LIST_OBJECTS_V2).status(400)
    with pytest.raises(ObjectError, match=r"bucket \S+ in region \S+: "):
        s3_place.run(lambda b: b.list_tree("pgdata/base"))
    assert fault.fired == bucket_module.REFUSALS


@pytest.mark.parametrize(
    ("region", "bucket"), [("us east", "bucket"), ("us-east-1", "Bad Bucket!"), ("", "b")]
)
def test_names_that_no_bucket_has(s3_place: Place, region: str, bucket: str) -> None:
    s3_place.location = ImportLocation(AwsS3(region, bucket, "x"))
    with pytest.raises(ImportFailed, match="no bucket can be called"):
        s3_place.run(lambda b: b.list_tree("pgdata/base"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
        ("AWS_ENDPOINT", "http://127.0.0.1:9"),
        ("AWS_S3_EXPRESS", "true"),
        ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true"),
        ("AWS_SKIP_SIGNATURE", "true"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
    ],
)
def test_the_environment_does_not_say_where(
    s3_place: Place, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Who configures an endpoint means that one."""
    monkeypatch.setenv(name, value)
    s3_place.config = replace(s3_place.config, stall_timeout=9.5)  # no client of another test
    s3_place.put(PATH, CONTENT)
    assert s3_place.read_range(s3_place.listed(), 0, 100) == CONTENT[:100]


def test_a_shortage_of_local_files_is_waited_for(local_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """I10"""
    local_place.put(PATH, CONTENT)
    source = local_place.listed()
    failures = iter([errno.EMFILE] * (bucket_module.REFUSALS + 1))
    really_open = os.open

    def open_(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if (number := next(failures, None)) is not None:
            raise OSError(number, os.strerror(number))
        return really_open(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(bucket_module, "back_off", no_wait)
    assert local_place.run(lambda b: b.read_listed(source)) == CONTENT


async def no_wait(failures: int) -> None:
    await asyncio.sleep(0)
