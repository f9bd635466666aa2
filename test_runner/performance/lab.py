"""What all benchmarks share: the processes of one run, environments, and timed imports."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from reattach.fixtures.bucket.server import BucketServer
from reattach.fixtures.common_types import TenantId
from reattach.fixtures.control_plane import ControlPlane
from reattach.fixtures.env.builder import NeonEnvBuilder
from reattach.fixtures.env.engines import Engines
from reattach.fixtures.env.env import NeonEnv
from reattach.fixtures.env.resources import EnvResources
from reattach.fixtures.imports.bucket import ImportBucket
from reattach.fixtures.imports.handle import ImportTimeline
from reattach.fixtures.output.spread import spread_subfolders
from reattach.fixtures.pg_version import PgVersion
from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.postgres.binaries import PgBin
from reattach.fixtures.postgres.cluster import ClusterCache
from reattach.fixtures.postgres.databases import DatabaseServer, start_database_server
from reattach.fixtures.postgres.datasets import DatasetCache
from reattach.fixtures.postgres.distributions import arrange, discover, possible_lenders
from reattach.fixtures.processes import Launcher

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
    """Everything that a run starts lives in `directory`, and is gone after `close`."""

    def __init__(self, directory: Path, quick: bool, requests: int) -> None:
        """quick: fewer repetitions and smaller data, to see whether a benchmark works.

        requests: how many the fuzzing sends.
        """
        spread_subfolders(directory)
        self.directory = directory
        self.quick = quick
        self.requests = requests
        self._stack = ExitStack()
        self._numbers = iter(range(1_000_000))
        self.launcher = Launcher()
        self._stack.callback(self.launcher.close)
        self.launcher.remove_at_exit(directory)
        # The launcher's own removal is for runs that are killed: gigabytes take longer than it may.
        self._stack.callback(shutil.rmtree, directory, ignore_errors=True)
        self.ports = PortDistributor()
        self._stack.callback(self.ports.close)
        self.engines = Engines.discover()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def runs(self, count: int) -> range:
        """So many repetitions, or as few as there can be in a quick run."""
        return range(2 if self.quick else count)

    def path(self, name: str) -> Path:
        """A path below the directory that nobody has had."""
        return self.directory / f"{name}-{next(self._numbers)}"

    @cached_property
    def clusters(self) -> ClusterCache:
        return ClusterCache(self.launcher, self.directory / "cache")

    @cached_property
    def distributions_dir(self) -> Path:
        directory = self.directory / "pg_distrib"
        distributions = discover(ROOT)
        arrange(distributions, possible_lenders(distributions), directory)
        return directory

    @cached_property
    def pg_bin(self) -> PgBin:
        """Programs of the PostgreSQL whose data is imported, where the version does not matter."""
        return self.pg_bin_of(PgVersion.DEFAULT)

    @cached_property
    def pg_bin_with_amcheck(self) -> PgBin:
        """The same, or those of another version if only that one has amcheck; `pg_bin` if none has."""
        distributions = discover(ROOT)
        for version in (PgVersion.DEFAULT, PgVersion.V17, PgVersion.V15, PgVersion.V14):
            distribution = distributions.get(int(version))
            if distribution is not None and distribution.has_extension("amcheck"):
                return self.pg_bin_of(version)
        return self.pg_bin

    def pg_bin_of(self, version: PgVersion) -> PgBin:
        """Programs of a version that is there."""
        return PgBin(self.directory, self.distributions_dir, version, clusters=self.clusters)

    @cached_property
    def datasets(self) -> DatasetCache:
        return DatasetCache(self.launcher, self.clusters, self.ports, self.directory / "datasets")

    @cached_property
    def databases(self) -> DatabaseServer:
        server = start_database_server(
            self.launcher, discover(ROOT), self.clusters, self.ports, self.directory
        )
        self._stack.callback(server.close)
        return server

    @cached_property
    def bucket(self) -> BucketServer:
        """The mock S3, started."""
        server = BucketServer(self.launcher, self.ports.get_port(), self.directory / "bucket")
        server.start()
        self._stack.callback(server.stop)
        return server

    @contextmanager
    def builder(self) -> Iterator[NeonEnvBuilder]:
        """Describes an environment, which is stopped, checked and removed at the end."""
        directory = self.path("env")
        directory.mkdir()
        control_plane = ControlPlane()
        resources = EnvResources(
            engines=self.engines,
            launcher=self.launcher,
            ports=self.ports,
            databases=self.databases,
            clusters=self.clusters,
            distributions=discover(ROOT),
            control_plane=control_plane,
            start_bucket=lambda: self.bucket,
        )
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            stack.callback(control_plane.close)
            yield stack.enter_context(
                NeonEnvBuilder(
                    resources,
                    repo_dir=directory / "repo",
                    test_output_dir=directory,
                    test_name=directory.name,
                    node_id=directory.name,
                    run_id="bench",
                    pg_version=PgVersion.DEFAULT,
                    pg_distrib_dir=self.distributions_dir,
                )
            )

    @contextmanager
    def environment(self, configure: Configure = lambda builder: None) -> Iterator[NeonEnv]:
        """A started environment. `configure`: changes its description before."""
        with self.builder() as builder:
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
    peak = max(_peak_rss(pageserver.pid) for pageserver in env.pageservers)
    return TimedImport(timeline, told - began, peak)


def _forget_peak_rss(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _peak_rss(pid: int) -> int:
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
