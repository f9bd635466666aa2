"""How fast imports are against copying the same bytes, how their time grows, how much memory they take."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise

import obstore
from obstore.store import S3Store

from reattach.fixtures.bucket.server import BucketServer
from reattach.fixtures.env.builder import NeonEnvBuilder
from reattach.fixtures.env.env import NeonEnv
from reattach.fixtures.imports.bucket import ImportBucket, LocalImportBucket, S3ImportBucket
from reattach.fixtures.remote_storage import RemoteStorageKind
from test_runner.performance.data import MIB, PAGE, DataFactory
from test_runner.performance.lab import Lab, drop_tenant, timed_copy, timed_import
from test_runner.performance.result import (
    Result,
    Side,
    as_fast_as,
    as_long_as,
    at_least,
    at_most,
    single,
)

MIN_OF_COPY = {1: 0.4, 4: 0.9}
MIN_OF_GET_AND_PUT = {1: 0.5}
"""By number of shards, of the smallest size."""
MIN_OF_LARGE_FILE = 0.5
MIN_OF_COPY_OF_UUIDS = 0.6
MIN_OF_GET_AND_PUT_OF_UUIDS = 1.0
MAX_OF_REAL = 0.1
MAX_RSS_MIB = 250.0
MAX_GROWTH = 1.15
"""Of the time per byte or per file, each time that there are twice as many."""

RUNS = 9
LARGE_RUNS = 3
GROWTH_RUNS = 5

_SIZES = (256 * MIB, 1024 * MIB)
_SHARDS = (1, 4)
_GROWING_SIZES = tuple(mib * MIB for mib in (64, 128, 256, 512, 1024, 2048))
_GROWING_COUNTS = (1000, 2000, 4000, 8000, 16000, 20000)
_SMALL_FILES = 16384

_RANGE = 4 * MIB
_REQUESTS = 16


def local(lab: Lab) -> Iterator[Result]:
    """A directory to a directory, against `cp -r` of the import bucket."""
    data = DataFactory(lab)
    for size in _quick(lab, _SIZES):
        bucket = data.relations([size])
        with lab.environment(_directories) as env:
            rounds = [
                (*_imports(env, bucket), timed_copy(bucket.directory, lab.path("copy"), lab.launcher))
                for _ in _rounds(lab, size)
            ]
        yield from _against_copy("import local", size, rounds, "cp -r", MIN_OF_COPY)
        _remove(bucket)


def s3(lab: Lab) -> Iterator[Result]:
    """Mock S3 to mock S3, against GET and PUT of the same objects by the client that the import uses."""
    data = DataFactory(lab)
    for size in _quick(lab, _SIZES):
        directory = data.relations([size])
        bucket = S3ImportBucket.fill(directory.source, lab.bucket, "bench", f"import-{size}")
        with lab.environment(_remote_in_s3) as env:
            rounds = [
                (*_imports(env, bucket), asyncio.run(_get_and_put(lab.bucket, bucket.prefix)))
                for _ in _rounds(lab, size)
            ]
        yield from _against_copy("import S3", size, rounds, "GET + PUT", MIN_OF_GET_AND_PUT)
        lab.bucket.reset()
        _remove(directory)


def hardly_compresses(lab: Lab) -> Iterator[Result]:
    """A table of random UUIDs: local against `cp -r`, and from S3 to S3 against GET and PUT."""
    size = (64 if lab.quick else 540) * MIB
    directory = DataFactory(lab).random_uuids(size)
    with lab.environment(_directories) as env:
        rounds = [
            (*_imports(env, directory), timed_copy(directory.directory, lab.path("copy"), lab.launcher))
            for _ in lab.runs(LARGE_RUNS)
        ]
    for shards, row in zip(_SHARDS, _against("cp -r", rounds), strict=True):
        what = f"import local, {size // MIB} MiB of random UUIDs, {_shards(shards)}"
        yield as_fast_as(what, *row, at_least(MIN_OF_COPY_OF_UUIDS))
    bucket = S3ImportBucket.fill(directory.source, lab.bucket, "bench", "import-uuids")
    with lab.environment(_remote_in_s3) as env:
        rounds = [
            (_import_seconds(env, bucket), asyncio.run(_get_and_put(lab.bucket, bucket.prefix)))
            for _ in lab.runs(LARGE_RUNS)
        ]
    (row,) = _against("GET + PUT", rounds)
    what = f"import S3, {size // MIB} MiB of random UUIDs, 1 shard"
    yield as_fast_as(what, *row, at_least(MIN_OF_GET_AND_PUT_OF_UUIDS))
    lab.bucket.reset()
    _remove(directory)


def real(lab: Lab) -> Iterator[Result]:
    """The same import by the built-in pageserver and by that of NEON_BIN, if it names one."""
    if lab.engines.pageserver.builtin:
        return
    data = DataFactory(lab)
    for size in _quick(lab, _SIZES):
        bucket = data.relations([size])
        pairs = []
        for _ in lab.runs(LARGE_RUNS):
            with lab.environment(_directories, builtin=True) as env:
                ours = _import_seconds(env, bucket)
            with lab.environment(_directories) as env:
                pairs.append((ours, _import_seconds(env, bucket)))
        (row,) = _against("real pageserver", pairs)
        what = f"import local, {size // MIB} MiB, against the real pageserver"
        yield as_long_as(what, *row, at_most(MAX_OF_REAL, "×"))
        _remove(bucket)


def memory(lab: Lab) -> list[Result]:
    """The pageserver's largest resident set while it imports, with the settings of the tests."""
    data = DataFactory(lab)
    results = []
    for size in _quick(lab, (256 * MIB, 1024 * MIB)):
        bucket = data.relations([size])
        with lab.environment() as env:
            peaks = []
            for _ in lab.runs(LARGE_RUNS):
                done = timed_import(env, bucket)
                peaks.append(done.peak_rss / MIB)
                drop_tenant(env, done)
        side = Side("pageserver", "MiB", tuple(peaks))
        budget = at_most(MAX_RSS_MIB, "MiB") if size == 1024 * MIB else None
        results.append(single(f"RSS of an import of {size // MIB} MiB", side, budget))
        _remove(bucket)
    return results


def growth_in_bytes(lab: Lab) -> list[Result]:
    """One relation of 64 MiB to 2 GiB: time per byte against that of half the bytes."""
    data = DataFactory(lab)
    buckets = {size: data.relations([size]) for size in _quick(lab, _GROWING_SIZES)}
    return _growth(lab, buckets, lambda size: f"import of {size // MIB} MiB", "per byte")


def growth_in_files(lab: Lab) -> list[Result]:
    """1,000 to 20,000 relations of one page: time per relation against that of half as many."""
    data = DataFactory(lab)
    buckets = {count: data.relations([PAGE] * count) for count in _quick(lab, _GROWING_COUNTS)}
    return _growth(lab, buckets, lambda count: f"import of {count:,} relations", "per relation")


def small_files(lab: Lab) -> list[Result]:
    """The same pages in many small relations and in one large one."""
    data = DataFactory(lab)
    count = 2048 if lab.quick else _SMALL_FILES
    many, one = data.relations([PAGE] * count), data.relations([PAGE * count])
    with lab.environment(_directories) as env:
        pairs = [(_import_seconds(env, many), _import_seconds(env, one)) for _ in lab.runs(GROWTH_RUNS)]
    from_many, from_one = (tuple(count / seconds for seconds in each) for each in zip(*pairs, strict=True))
    subject, yardstick = Side(f"{count:,} files", "/s", from_many), Side("1 file", "/s", from_one)
    return [as_fast_as("pages from small files", subject, yardstick, at_least(MIN_OF_LARGE_FILE))]


def _directories(builder: NeonEnvBuilder) -> None:
    """From a directory to a directory, with jobs as large as a pageserver makes them by default."""
    _default_jobs(builder)
    builder.enable_pageserver_remote_storage(RemoteStorageKind.LOCAL_FS)


def _remote_in_s3(builder: NeonEnvBuilder) -> None:
    _default_jobs(builder)
    builder.enable_pageserver_remote_storage(RemoteStorageKind.MOCK_S3)


def _default_jobs(builder: NeonEnvBuilder) -> None:
    builder.pageserver_config_override = lambda config: config.pop("timeline_import_config")


def _import_seconds(env: NeonEnv, bucket: ImportBucket, shards: int = 1) -> float:
    done = timed_import(env, bucket, 0 if shards == 1 else shards)
    drop_tenant(env, done)
    return done.seconds


def _imports(env: NeonEnv, bucket: ImportBucket) -> list[float]:
    """Seconds, for each number of shards."""
    return [_import_seconds(env, bucket, shards) for shards in _SHARDS]


def _rounds(lab: Lab, size: int) -> range:
    return lab.runs(RUNS if size == _SIZES[0] else LARGE_RUNS)


async def _get_and_put(server: BucketServer, prefix: str) -> float:
    """Seconds to copy all objects below `prefix`, in ranges, as many at a time as an import has."""
    source, target = _store(server, "bench"), _store(server, "bench")
    objects = [(meta["path"], meta["size"]) async for chunk in obstore.list(source, prefix) for meta in chunk]
    slots = asyncio.Semaphore(_REQUESTS)

    async def copy(path: str, first: int, end: int) -> None:
        async with slots:
            body = await obstore.get_range_async(source, path, start=first, end=end) if end else b""
            await obstore.put_async(target, f"copy/{path}.{first}", body, use_multipart=False)

    began = time.perf_counter()
    await asyncio.gather(
        *(
            copy(path, first, min(first + _RANGE, size))
            for path, size in objects
            for first in range(0, max(size, 1), _RANGE)
        )
    )
    seconds = time.perf_counter() - began
    copies = [meta["path"] async for chunk in obstore.list(target, "copy") for meta in chunk]
    await obstore.delete_async(target, copies)
    return seconds


def _store(server: BucketServer, bucket: str) -> S3Store:
    return S3Store(
        bucket,
        endpoint=server.endpoint,
        region=server.region,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "timeout": timedelta(seconds=120)},
    )


def _against_copy(
    what: str, size: int, rounds: Sequence[Sequence[float]], yardstick: str, least: Mapping[int, float]
) -> Iterator[Result]:
    """A row for each number of shards."""
    for shards, sides in zip(_SHARDS, _against(yardstick, rounds), strict=True):
        budget = at_least(least[shards]) if size == _SIZES[0] and shards in least else None
        yield as_fast_as(f"{what}, {size // MIB} MiB, {_shards(shards)}", *sides, budget)


def _against(yardstick: str, rounds: Sequence[Sequence[float]]) -> Iterator[tuple[Side, Side]]:
    """The sides of each row. A round: an import for each row, then what they are measured against."""
    *imports, copies = zip(*rounds, strict=True)
    for seconds in imports:
        yield Side("import", "s", seconds), Side(yardstick, "s", copies)


def _growth(
    lab: Lab, buckets: dict[int, LocalImportBucket], name: Callable[[int], str], per: str
) -> list[Result]:
    """A row for each step: how many times as long each unit takes as in the step before.

    A round imports them all, so that steps are compared that were measured at about the same time. The first
    does not count: it finds a young process, and files that nobody has read.
    """
    with lab.environment(_directories) as env:
        rounds = [
            [_import_seconds(env, bucket) for bucket in buckets.values()]
            for _ in range(1 + len(lab.runs(GROWTH_RUNS)))
        ][1:]
    sides = {n: Side(name(n), "s", each) for n, each in zip(buckets, zip(*rounds, strict=True), strict=True)}
    rows = []
    for half, whole in pairwise(sides):
        row = as_long_as(f"{name(whole)}, {per}", sides[whole], sides[half])
        rows.append(row.scaled(half / whole, at_most(MAX_GROWTH, "×")))
    return rows


def _quick(lab: Lab, values: tuple[int, ...]) -> tuple[int, ...]:
    return values[:2] if lab.quick and len(values) > 2 else values[:1] if lab.quick else values


def _shards(count: int) -> str:
    return f"{count} shard{'s' if count > 1 else ''}"


def _remove(bucket: LocalImportBucket) -> None:
    shutil.rmtree(bucket.directory)
