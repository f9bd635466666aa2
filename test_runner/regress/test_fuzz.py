"""Requests without sense to everything that listens. `scripts/bench --only fuzz` sends a hundred thousand."""

from __future__ import annotations

from reattach.fixtures.bucket.server import BucketServer
from reattach.fixtures.env.builder import NeonEnvBuilder
from reattach.fixtures.imports.bucket import ImportBucket
from test_runner.fuzz.cloud import fuzz_cloud

REQUESTS = 1600
GROWTH_BYTES = 64 << 20
"""In so short a run caches still fill; the benchmark looks closer."""


def test_fuzz(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket, bucket_server: BucketServer
) -> None:
    """I10: no answer is a 500 that is not meant, none fails to come, no process ends or swells."""
    env = neon_env_builder.init_start()
    for service in env.services:
        service.allowed_errors.append(".*")
    for fuzzed in fuzz_cloud(env, bucket_server, REQUESTS, seed=1):
        tally = fuzzed.tally
        assert not tally.wrong, f"{fuzzed.name}: {tally.wrong_count} of {tally.sent}\n" + "\n".join(
            tally.wrong[:20]
        )
        assert tally.hung == 0 and tally.unanswered < tally.sent / 50
        assert len(tally.statuses) > 3, tally.statuses
        assert tally.statuses[200] > tally.sent / 20, tally.statuses
        assert fuzzed.growth < GROWTH_BYTES, f"{fuzzed.name} grew by {fuzzed.growth / 2**20:.0f} MiB"
    assert all(service.running for service in env.services) and bucket_server.is_running()
