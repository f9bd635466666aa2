"""What all benchmarks share: environments, and timed imports."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from reattach.fixtures.bucket.server import BucketServer
from reattach.fixtures.common_types import TenantId
from reattach.fixtures.control_plane import ControlPlane
from reattach.fixtures.env.builder import NeonEnvBuilder
from reattach.fixtures.env.engines import Engines
from reattach.fixtures.env.env import NeonEnv
from reattach.fixtures.imports.bucket import ImportBucket
from reattach.fixtures.imports.handle import ImportTimeline
from reattach.fixtures.pg_version import PgVersion
from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.postgres.binaries import PgBin
from reattach.fixtures.postgres.databases import DatabaseServer
from reattach.fixtures.postgres.datasets import DatasetCache
from reattach.fixtures.postgres.distributions import Distribution
from reattach.fixtures.processes import Launcher
from reattach.fixtures.subjects.neon.plugin import make_builders_like
from reattach.fixtures.subjects.neon.subject import MakeBuilder

ROOT = Path(__file__).resolve().parents[2]
IMPORT_SECONDS = 600.0
STRIPE_SIZE = 2048
"""Pages; the controller's own default."""


@dataclass(frozen=True, slots=True)
class TimedImport:
    """An import that ended well.

    seconds: from the request that creates the timeline until the control plane is told. peak_rss: bytes, the
    largest resident set that a pageserver had meanwhile.
    """

    timeline: ImportTimeline
    seconds: float
    peak_rss: int


Configure = Callable[[NeonEnvBuilder], object]


class Lab:
    """What a benchmark works with: the fixtures of a test."""

    def __init__(self, request: pytest.FixtureRequest, quick: bool, requests: int) -> None:
        """quick: fewer repetitions and smaller data, to see whether a benchmark works.

        requests: how many the fuzzing sends.
        """
        self.quick = quick
        self.requests = requests
        self._request = request
        self._numbers = itertools.count()
        self.launcher: Launcher = request.getfixturevalue("launcher")
        self.ports: PortDistributor = request.getfixturevalue("port_distributor")
        self.directory: Path = request.getfixturevalue("test_output_dir")

    @cached_property
    def engines(self) -> Engines:
        """The executables."""
        found: Engines = self._request.getfixturevalue("engines")
        return found

    @cached_property
    def databases(self) -> DatabaseServer:
        """The PostgreSQL of the controllers, started."""
        found: DatabaseServer = self._request.getfixturevalue("database_server")
        return found

    @cached_property
    def datasets(self) -> DatasetCache:
        """Data directories with data in them."""
        found: DatasetCache = self._request.getfixturevalue("pg_datasets")
        return found

    @cached_property
    def bucket(self) -> BucketServer:
        """The mock S3, started."""
        found: BucketServer = self._request.getfixturevalue("bucket_server")
        return found

    @cached_property
    def pg_bin(self) -> PgBin:
        """Programs of the PostgreSQL whose data is imported, where the version does not matter."""
        found: PgBin = self._request.getfixturevalue("pg_bin")
        return found

    def path(self, name: str) -> Path:
        """A path below the directory that nobody has had."""
        return self.directory / f"{name}-{next(self._numbers)}"

    @contextmanager
    def builder(self, *, builtin: bool = False) -> Iterator[NeonEnvBuilder]:
        """Describes an environment, which is stopped, checked and removed at the end.

        builtin: of the built-in programs, whatever NEON_BIN names.
        """
        directory = self.path("env")
        directory.mkdir()
        control_plane = ControlPlane()
        make = self._make_builtin if builtin else self._make
        try:
            with make(directory.name, directory, control_plane) as builder:
                yield builder
        finally:
            control_plane.close()
            shutil.rmtree(directory, ignore_errors=True)

    @cached_property
    def _make(self) -> MakeBuilder:
        return make_builders_like(self._request.getfixturevalue("neon_env_builder"))

    @cached_property
    def _make_builtin(self) -> MakeBuilder:
        return make_builders_like(self._request.getfixturevalue("neon_env_builder"), Engines.discover({}))

    def runs(self, count: int) -> range:
        """So many repetitions, or as few as there can be in a quick run."""
        return range(2 if self.quick else count)

    @cached_property
    def pg_bin_with_amcheck(self) -> PgBin:
        """`pg_bin`, or that of another version if only that one has amcheck; `pg_bin` if none has."""
        get = self._request.getfixturevalue
        distributions: Mapping[int, Distribution] = get("pg_distributions")
        for version in (PgVersion.DEFAULT, PgVersion.V17, PgVersion.V15, PgVersion.V14):
            distribution = distributions.get(int(version))
            if distribution is not None and distribution.has_extension("amcheck"):
                return PgBin(self.directory, get("pg_distrib_dir"), version, clusters=get("pg_clusters"))
        return self.pg_bin

    @contextmanager
    def environment(
        self, configure: Configure = lambda builder: None, *, builtin: bool = False
    ) -> Iterator[NeonEnv]:
        """A started environment. `configure`: changes its description before. builtin: see `builder`."""
        with self.builder(builtin=builtin) as builder:
            configure(builder)
            yield builder.init_start()


def timed_import(env: NeonEnv, bucket: ImportBucket, shard_count: int = 0) -> TimedImport:
    """Imports into a new tenant. The tenant is there before the clock starts.

    Raises RuntimeError if the import fails, WaitTimeout if it does not end.
    """
    tenant = TenantId.generate()
    env.storage_controller.tenant_create(tenant, shard_count or None, STRIPE_SIZE if shard_count else None)
    for pageserver in env.pageservers:
        _forget_peak_rss(pageserver.pid)
    began = time.monotonic()
    timeline = env.start_import(bucket, tenant_id=tenant, shard_count=shard_count)
    error = env.control_plane.wait_import_complete(timeline, IMPORT_SECONDS)
    if error is not None:
        raise RuntimeError(f"the import failed: {error}")
    calls = env.control_plane.import_complete_calls
    told = next(call.at for call in calls if call.timeline_id == timeline.timeline_id)
    peak = max(peak_rss(pageserver.pid) for pageserver in env.pageservers)
    return TimedImport(timeline, told - began, peak)


def _forget_peak_rss(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_rss(pid: int) -> int:
    """Bytes; see `TimedImport`. Raises RuntimeError if the kernel does not tell."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    if found is None:
        raise RuntimeError("the kernel does not tell a process's peak memory")
    return int(found[1]) * 1024


def drop_tenant(env: NeonEnv, timed: TimedImport) -> None:
    """Makes room for the next import."""
    env.storage_controller.pageserver_api().tenant_delete(timed.timeline.tenant_id)


def timed_copy(source: Path, target: Path, launcher: Launcher) -> float:
    """Seconds that `cp -r` takes, its start included. The copy is removed again."""
    began = time.perf_counter()
    launcher.run(["cp", "-r", source, target], timeout=IMPORT_SECONDS, env=os.environ)
    seconds = time.perf_counter() - began
    shutil.rmtree(target)
    return seconds
