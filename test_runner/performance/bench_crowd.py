"""Many imports at a time, with few files that may be open, and with a local disk that is full, twice."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

from reattach.api.ids import TimelineId
from reattach.fixtures.env.builder import NeonEnvBuilder
from reattach.fixtures.env.env import NeonEnv
from reattach.fixtures.imports.bucket import ImportBucket
from reattach.fixtures.imports.handle import ImportTimeline
from reattach.fixtures.storage_controller.types import StorageControllerApiException
from reattach.fixtures.waiting import wait_until
from test_runner.performance.data import FIRST_OID, MIB, DataFactory
from test_runner.performance.lab import Lab, peak_rss
from test_runner.performance.result import Result, Side, at_most, single

PAGESERVERS = 3
SHARDS = 4
TENANTS = 200
OPEN_FILES = 1024
MAX_SECONDS = 45.0
MAX_OPEN = 800
MAX_RSS_MIB = 250.0
ON_FULL_DISKS = 20

_RELATIONS = [512 * 1024] * 8
_CREATING = 8
_COMPARING = 2
_SECONDS = 3600.0
_LOOK_SECONDS = 0.1
_FULL_BYTES = 64 * 1024


def crowd(lab: Lab) -> list[Result]:
    """200 tenants of 4 shards at a time on 3 pageservers, each of which may open 1,024 files."""
    tenants = 10 if lab.quick else TENANTS
    bucket = DataFactory(lab).relations(_RELATIONS)
    # Whatever is started from now on, as after `ulimit -n 1024`.
    resource.prlimit(lab.launcher.pid, resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    with lab.environment(_configure) as env:
        pids = [pageserver.pid for pageserver in env.pageservers]
        limits = {resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}
        if limits != {(OPEN_FILES, OPEN_FILES)}:
            raise RuntimeError(f"the pageservers may open {limits} files, not {OPEN_FILES}")
        began = time.monotonic()
        with _watched(pids) as most_open:
            with _started(env, bucket, tenants) as begun:
                imports = [one.result() for one in begun]
            _wait(env, imports)
        seconds = time.monotonic() - began
        peaks = tuple(peak_rss(pid) / MIB for pid in pids)
        _compare(imports, bucket)
    what = f"{tenants} tenants × {SHARDS} shards on {PAGESERVERS} pageservers"
    return [
        single(
            f"{what}: until the last is done",
            Side("imports", "s", (seconds,)),
            at_most(MAX_SECONDS, "s"),
        ),
        single(
            f"{what}: open files, at most",
            Side("pageserver", "", tuple(float(most_open[pid]) for pid in pids)),
            at_most(MAX_OPEN, ""),
        ),
        single(f"{what}: RSS", Side("pageserver", "MiB", peaks), at_most(MAX_RSS_MIB, "MiB")),
    ]


def full_disks(lab: Lab) -> list[Result]:
    """20 tenants of 4 shards while the pageservers' disks are full, and full again; needs root to mount."""
    tenants = 5 if lab.quick else ON_FULL_DISKS
    bucket = DataFactory(lab).relations(_RELATIONS)
    _fill_with_noise(bucket)
    small = sum(_RELATIONS) * tenants // PAGESERVERS // 4
    with lab.builder() as builder:
        _configure(builder)
        env = builder.init_configs()
        disks = [pageserver.workdir / "tenants" for pageserver in env.pageservers]
        with _mounted(disks, small):
            env.start()
            with _started(env, bucket, tenants) as begun:
                for size in (2 * small, 1 << 33):
                    _wait_full(disks)
                    _resize(disks, size)
                began = time.monotonic()
                imports = [one.result() for one in begun]
            _wait(env, imports)
            seconds = time.monotonic() - began
            _compare(imports, bucket)
            for service in env.services:
                service.kill()  # it holds the disks
    what = f"{tenants} tenants × {SHARDS} shards, disks full twice"
    return [single(f"{what}: done after there was space", Side("imports", "s", (seconds,)))]


def _configure(builder: NeonEnvBuilder) -> None:
    builder.num_pageservers = PAGESERVERS


@contextmanager
def _started(env: NeonEnv, bucket: ImportBucket, tenants: int) -> Iterator[list[Future[ImportTimeline]]]:
    """The imports, which begin meanwhile; all have by the end."""
    for service in env.services:
        service.allowed_errors.append(".*")  # that there is no space is what they are to say
    with ThreadPoolExecutor(_CREATING) as pool:
        yield [pool.submit(_begin, env, bucket, f"branch-{number}") for number in range(tenants)]


def _begin(env: NeonEnv, bucket: ImportBucket, branch: str) -> ImportTimeline:
    """Creates it again for as long as the controller says that it cannot now, as its clients do."""
    timeline_id = TimelineId.generate()
    try:
        return env.start_import(bucket, shard_count=SHARDS, timeline_id=timeline_id, branch_name=branch)
    except StorageControllerApiException as e:
        if e.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
            raise
    timeline = next(one for one in env.imports if one.timeline_id == timeline_id)
    wait_until(
        lambda: env.storage_controller.timeline_import(timeline.tenant_id, timeline_id, bucket.location),
        name=f"{branch} to be created",
        timeout=_SECONDS,
        interval=_LOOK_SECONDS,
    )
    return timeline


def _wait(env: NeonEnv, imports: Sequence[ImportTimeline]) -> None:
    """Raises RuntimeError for one that has failed."""
    for timeline in imports:
        error = env.control_plane.wait_import_complete(timeline, _SECONDS)
        if error is not None:
            raise RuntimeError(f"{timeline}: {error}")
    told = [call for call in env.control_plane.import_complete_calls if 200 <= call.status < 300]
    if len(told) != len(imports):
        raise RuntimeError(f"{len(told)} ends were told of {len(imports)} imports")


def _compare(imports: Sequence[ImportTimeline], bucket: ImportBucket) -> None:
    """Raises AssertionError for one that differs."""

    def compare(timeline: ImportTimeline) -> None:
        timeline.wait_forgotten()
        timeline.assert_equals(bucket)

    with ThreadPoolExecutor(_COMPARING) as pool:
        list(pool.map(compare, imports))


@contextmanager
def _watched(pids: Sequence[int]) -> Iterator[dict[int, int]]:
    """The largest number of files that each process had open, by looking often."""
    most = dict.fromkeys(pids, 0)
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_SECONDS):
            for pid in pids:
                most[pid] = max(most[pid], sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield most
    finally:
        over.set()
        watcher.join()


def _fill_with_noise(bucket: ImportBucket) -> None:
    """The factory's pages would be packed to next to nothing."""
    noise = random.Random(7)
    for relation in sorted((bucket.pgdata / "base").glob(f"*/{FIRST_OID // 1000}???")):
        relation.write_bytes(noise.randbytes(relation.stat().st_size))


@contextmanager
def _mounted(folders: Sequence[Path], size: int) -> Iterator[None]:
    mounted: list[Path] = []
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
            mounted.append(folder)
        yield
    finally:
        for folder in mounted:
            _run("umount", "-l", folder)


def _wait_full(folders: Sequence[Path]) -> None:
    def full() -> None:
        free = {folder: _free(folder) for folder in folders}
        assert all(size < _FULL_BYTES for size in free.values()), free

    wait_until(full, name="every disk to be full", timeout=_SECONDS, interval=_LOOK_SECONDS)


def _free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _resize(folders: Sequence[Path], size: int) -> None:
    for folder in folders:
        _run("mount", "-o", f"remount,size={size}", folder)


def _run(*argv: str | Path) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {done.stderr.strip()}")
