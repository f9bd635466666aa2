"""Requests without sense to everything that listens: what must not come back, and what is left behind."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from reattach.fixtures.env.builder import NeonEnvBuilder
from test_runner.fuzz.cloud import Fuzzed, fuzz_cloud
from test_runner.performance.lab import Lab
from test_runner.performance.result import Result, Side, at_most, single

MIB = 1 << 20
QUICK_REQUESTS = 4000
MAX_GROWTH_MIB = 16.0
SEED = 1


def fuzz(lab: Lab) -> Iterator[Result]:
    """Every route of both services and the bucket: 500s that are not meant, hangs, growth of memory."""
    count = QUICK_REQUESTS if lab.quick else lab.requests
    bucket = lab.bucket

    def configure(builder: NeonEnvBuilder) -> None:
        # Nobody's S3 but the mock.
        builder.pageserver_config_override = f'import_pgdata_aws_endpoint_url = "{bucket.endpoint}"'

    with lab.environment(configure) as env:
        for service in env.services:
            service.allowed_errors.append(".*")
        began = time.monotonic()
        for fuzzed in fuzz_cloud(env, bucket, count, SEED):
            seconds = time.monotonic() - began
            yield from _results(fuzzed, seconds)
            began = time.monotonic()
        assert all(service.running for service in env.services)


def _results(fuzzed: Fuzzed, seconds: float) -> Iterator[Result]:
    tally = fuzzed.tally
    what = f"fuzz, {tally.sent:,} requests to the {fuzzed.name}"
    for line in tally.wrong:
        print(f"    {line}", file=sys.stderr)  # noqa: T201
    statuses = ", ".join(f"{count:,} × {status}" for status, count in sorted(tally.statuses.items()))
    print(f"    {what}: {statuses}; {tally.unanswered:,} closed", file=sys.stderr)  # noqa: T201

    def row(name: str, unit: str, value: float, bound: float | None = None) -> Result:
        budget = None if bound is None else at_most(bound, unit)
        return single(f"{what}: {name}", Side(name, unit, (value,)), budget)

    yield row("answers that must not be", "", tally.wrong_count, 0)
    yield row("without an answer", "", tally.hung, 0)
    yield row("RSS that stays", "MiB", fuzzed.growth / MIB, MAX_GROWTH_MIB)
    yield row("requests", "/s", tally.sent / seconds)
