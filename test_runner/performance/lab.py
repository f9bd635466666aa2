"""What all benchmarks share: a workshop with environments, and timed imports."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from reattach.fixtures.common_types import TenantId
from reattach.fixtures.env.builder import NeonEnvBuilder
from reattach.fixtures.env.env import NeonEnv
from reattach.fixtures.env.workshop import Workshop
from reattach.fixtures.imports.bucket import ImportBucket
from reattach.fixtures.imports.handle import ImportTimeline
from reattach.fixtures.pg_version import PgVersion
from reattach.fixtures.postgres.binaries import PgBin
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


class Lab(Workshop):
    """A workshop of a benchmark run."""

    def __init__(self, directory: Path, quick: bool, requests: int) -> None:
        """quick: fewer repetitions and smaller data, to see whether a benchmark works.

        requests: how many the fuzzing sends.
        """
        super().__init__(directory, root=ROOT)
        self.quick = quick
        self.requests = requests

    def runs(self, count: int) -> range:
        """So many repetitions, or as few as there can be in a quick run."""
        return range(2 if self.quick else count)

    @cached_property
    def pg_bin_with_amcheck(self) -> PgBin:
        """`pg_bin`, or that of another version if only that one has amcheck; `pg_bin` if none has."""
        for version in (PgVersion.DEFAULT, PgVersion.V17, PgVersion.V15, PgVersion.V14):
            distribution = self.distributions.get(int(version))
            if distribution is not None and distribution.has_extension("amcheck"):
                return self.pg_bin_of(version)
        return self.pg_bin

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
        _forgetpeak_rss(pageserver.pid)
    began = time.monotonic()
    timeline = env.start_import(bucket, tenant_id=tenant, shard_count=shard_count)
    error = env.control_plane.wait_import_complete(timeline, IMPORT_SECONDS)
    if error is not None:
        raise RuntimeError(f"the import failed: {error}")
    calls = env.control_plane.import_complete_calls
    told = next(call.at for call in calls if call.timeline_id == timeline.timeline_id)
    peak = max(peak_rss(pageserver.pid) for pageserver in env.pageservers)
    return TimedImport(timeline, told - began, peak)


def _forgetpeak_rss(pid: int) -> None:
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
