"""A whole cloud under fuzzing: both services and the bucket, one after the other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
import requests

from reattach.fixtures.bucket.server import BucketServer
from reattach.fixtures.env.env import NeonEnv
from test_runner.fuzz.bucket import BUCKET, BucketRequests, wrong_with_bucket
from test_runner.fuzz.judge import wrong_with
from test_runner.fuzz.requests import Request, Requests
from test_runner.fuzz.run import Judge, Tally, fuzz

WARM_UP = 0.3
"""This part of the requests comes before memory is looked at: until then every kind has been seen."""


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """What became of one server. growth: bytes of resident memory that came after the warm-up."""

    name: str
    tally: Tally
    growth: int


def fuzz_cloud(env: NeonEnv, bucket: BucketServer, count: int, seed: int) -> Iterator[Fuzzed]:
    """About `count` requests in all: half of them to the controller, and as many to each of the others.

    The same seed sends the same requests; which answers they get depends on their order, too. Nobody but the
    fuzzed cloud is called: see `pools`.
    """
    controller, pageserver = env.storage_controller, env.pageserver
    bucket.create_bucket(BUCKET)
    rng = random.Random(seed)
    for name, port, pid, share in (
        ("storage controller", controller.port, controller.pid, count // 2),
        ("pageserver", pageserver.service_port.http, pageserver.pid, count // 4),
    ):
        document = requests.get(f"http://127.0.0.1:{port}/openapi.json", timeout=10).json()
        supply = Requests(document, random.Random(rng.random()))
        yield _fuzzed(name, port, pid, supply.next, share, wrong_with)
    supply_of_bucket = BucketRequests(random.Random(rng.random()))
    pid = bucket.process.pid
    yield _fuzzed("bucket", bucket.port, pid, supply_of_bucket.next, count // 4, wrong_with_bucket)


def _fuzzed(
    name: str, port: int, pid: int, supply: Callable[[], Request], count: int, judge: Judge
) -> Fuzzed:
    process = psutil.Process(pid)
    first = int(count * WARM_UP)
    tally = asyncio.run(fuzz(port, supply, first, judge))
    before = process.memory_info().rss
    rest = asyncio.run(fuzz(port, supply, count - first, judge))
    growth = process.memory_info().rss - before
    tally.statuses += rest.statuses
    tally.unanswered += rest.unanswered
    tally.hung += rest.hung
    tally.wrong_count += rest.wrong_count
    tally.wrong = (tally.wrong + rest.wrong)[:100]
    return Fuzzed(name, tally, growth)
