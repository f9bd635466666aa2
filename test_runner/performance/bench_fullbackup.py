"""How fast an imported timeline comes back, and how long the whole proof of an import takes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from reattach.fixtures.backup.fetch import fetch_fullbackup
from reattach.fixtures.fast_import import populate_vanilla_pg, validate_import_from_vanilla_pg
from reattach.fixtures.imports.bucket import LocalImportBucket, SourceCluster
from reattach.fixtures.imports.handle import ImportTimeline
from test_runner.performance.data import MIB, DataFactory
from test_runner.performance.lab import Lab, timed_import
from test_runner.performance.result import Result, Side, as_fast_as, at_least, at_most, single

MIN_RATIO = 0.7
MAX_PROOF_SECONDS = 5.0

RELATION_BYTES = 256 * MIB
CLUSTER_TABLE_BYTES = 16 * MIB
"""With the catalogs the cluster has 40 MB then."""

RUNS = 7

_READ_BYTES = 1 << 20


def measure(lab: Lab) -> list[Result]:
    """The backup of a 256 MiB relation against `tar -c`, and the proof of a 40 MB cluster."""
    return [backup_against_tar(lab), whole_proof(lab)]


def backup_against_tar(lab: Lab) -> Result:
    """Both are read here and dropped, one after the other, so that neither waits for a disk."""
    bucket = DataFactory(lab).relations([RELATION_BYTES])
    with lab.environment() as env:
        timeline = timed_import(env, bucket).timeline
        rates = [(_rate(_backup(timeline)), _rate(_tar(bucket.pgdata))) for _ in lab.runs(RUNS)]
    backup = Side("fullbackup", "MiB/s", tuple(rate for rate, _ in rates))
    tar = Side("tar -c", "MiB/s", tuple(rate for _, rate in rates))
    return as_fast_as("full backup of a 256 MiB relation", backup, tar, at_least(MIN_RATIO))


def whole_proof(lab: Lab) -> Result:
    """Import, backup, comparison, start of a server, a query over all rows, amcheck where there is one."""
    pg_bin = lab.pg_bin_with_amcheck
    dataset = lab.datasets.get(
        f"populate_vanilla_pg({CLUSTER_TABLE_BYTES})",
        lambda postgres: populate_vanilla_pg(postgres, CLUSTER_TABLE_BYTES),
        pg_bin,
    )
    source = SourceCluster(dataset.pgdata, pg_bin.distribution.version, dataset.result)
    bucket = LocalImportBucket.fill(source, lab.path("bucket"))
    seconds, checked = [], True
    with lab.environment() as env:
        for _ in lab.runs(RUNS):
            began = time.perf_counter()
            timeline = timed_import(env, bucket).timeline
            timeline.assert_equals(bucket)
            with timeline.endpoint() as endpoint:
                validate_import_from_vanilla_pg(endpoint, bucket.rows)
                if endpoint.amcheck_missing is None:
                    endpoint.pg_amcheck(heapallindexed=True)
                else:
                    checked = False
            seconds.append(time.perf_counter() - began)
    what = f"proof of a 40 MB cluster of PostgreSQL {pg_bin.distribution.version}, "
    what += "with amcheck" if checked else "without amcheck: there is none"
    return single(what, Side("import to amcheck", "s", tuple(seconds)), at_most(MAX_PROOF_SECONDS, "s"))


def _backup(timeline: ImportTimeline) -> Iterable[bytes | bytearray | memoryview]:
    return fetch_fullbackup(timeline.pageserver_of().connstr(), timeline.tenant_id, timeline.timeline_id)


def _tar(directory: Path) -> Iterator[bytes]:
    with subprocess.Popen(["tar", "-c", directory], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tar:
        assert tar.stdout is not None
        with closing(tar.stdout):
            while part := tar.stdout.read(_READ_BYTES):
                yield part
    if tar.returncode:
        raise RuntimeError(f"tar ended with {tar.returncode}")


def _rate(stream: Iterable[bytes | bytearray | memoryview]) -> float:
    """MiB per second until the end of the stream."""
    began = time.perf_counter()
    size = sum(map(len, stream))
    return size / MIB / (time.perf_counter() - began)
