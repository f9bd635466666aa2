"""The mock S3 against stock moto_server, and the storage controller with many tenants."""

from __future__ import annotations

from test_runner.performance import bench_bucket, bench_controller
from test_runner.performance.lab import Lab
from test_runner.performance.result import Result, Side, at_least, single

MIB = 1 << 20
BUCKET_RUNS = 5
RUNS = 3


def bucket(lab: Lab) -> list[Result]:
    """Small GETs, ranges of a large object, and PUTs, against stock moto_server."""
    runs = len(lab.runs(BUCKET_RUNS))
    return [
        bench_bucket.small_gets(lab.launcher, lab.ports, runs=runs),
        bench_bucket.ranges_of_a_large_object(
            lab.launcher, lab.ports, runs=runs, object_size=(64 if lab.quick else 1024) * MIB
        ),
        bench_bucket.puts(lab.launcher, lab.ports, runs=runs),
    ]


def controller(lab: Lab) -> list[Result]:
    """1,000 tenants of 4 shards, 64 pageserver connections that report progress."""
    found = [
        bench_controller.measure(
            lab.launcher,
            lab.ports,
            lab.databases,
            lab.engines.storage_controller.path,
            lab.directory,
            tenants=100 if lab.quick else 1000,
            seconds=2.0 if lab.quick else 5.0,
        )
        for _ in lab.runs(RUNS)
    ]
    first = found[0]
    what = f"controller, {first.tenants:,} tenants × {first.shards_per_tenant} shards"

    def row(name: str, unit: str, samples: list[float], bound: float | None = None) -> Result:
        budget = None if bound is None else at_least(bound, unit)
        return single(f"{what}: {name}", Side(name, unit, tuple(samples)), budget)

    return [
        row("start to /ready", "s", [one.ready_seconds for one in found]),
        row(
            f"status POSTs at {first.connections} connections",
            "/s",
            [one.status_posts_per_second for one in found],
            bench_controller.MIN_STATUS_POSTS_PER_SECOND,
        ),
        row("status POST, p50", "s", [one.status_post_p50_ms / 1000 for one in found]),
        row("status POST, p99", "s", [one.status_post_p99_ms / 1000 for one in found]),
        row("RSS", "MiB", [one.rss_bytes / MIB for one in found]),
    ]
