"""How fast a storage controller with many tenants starts and records progress, and in how much memory."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psutil
import psycopg

from reattach.api import codec
from reattach.api.ids import TenantId, TenantShardId, TimelineId
from reattach.api.import_status import InProgress, ShardImportProgress
from reattach.api.location import LocationConfig, LocationConfigMode
from reattach.api.upcall import PutImportStatusRequest
from reattach.fixtures.http_probe import probe
from reattach.fixtures.processes import Process, wait_for
from test_runner.performance.lab import Lab
from test_runner.performance.result import Budget, Result, Side, at_least, single

MIB = 1 << 20
RUNS = 3
SHARDS, CONNECTIONS = 4, 64
MIN_STATUS_POSTS_PER_SECOND = 300.0

_GENERATION = 1
_STRIPE_SIZE = 2048
_START_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class _Measured:
    """ready: seconds from starting the process to `/ready`, with every shard attached already. latencies: of
    status POSTs, in seconds, sorted. rss: bytes, after the load.
    """

    ready: float
    posts_per_second: float
    latencies: list[float]
    rss: int


@dataclass(frozen=True, slots=True)
class _Shard:
    id: TenantShardId
    timeline: TimelineId


def controller(lab: Lab) -> list[Result]:
    """1,000 tenants of 4 shards, 64 pageserver connections that report progress."""
    tenants, seconds = (100, 2.0) if lab.quick else (1000, 5.0)
    found = [_measure(lab, tenants, seconds) for _ in lab.runs(RUNS)]

    def row(name: str, unit: str, samples: Iterable[float], budget: Budget | None = None) -> Result:
        what = f"controller, {tenants:,} tenants × {SHARDS} shards: {name}"
        return single(what, Side(name, unit, tuple(samples)), budget)

    return [
        row("start to /ready", "s", (one.ready for one in found)),
        row(
            f"status POSTs at {CONNECTIONS} connections",
            "/s",
            (one.posts_per_second for one in found),
            at_least(MIN_STATUS_POSTS_PER_SECOND, "/s"),
        ),
        row("status POST, p50", "s", (one.latencies[len(one.latencies) // 2] for one in found)),
        row("status POST, p99", "s", (one.latencies[len(one.latencies) * 99 // 100] for one in found)),
        row("RSS", "MiB", (one.rss / MIB for one in found)),
    ]


def _measure(lab: Lab, tenants: int, seconds: float) -> _Measured:
    """Starts a controller with that many tenants, each with an import, and reports progress for `seconds`."""
    shards = [
        _Shard(TenantShardId(tenant, number, SHARDS), timeline)
        for tenant, timeline in ((TenantId.generate(), TimelineId.generate()) for _ in range(tenants))
        for number in range(SHARDS)
    ]
    with ExitStack() as stack:
        database = lab.databases.create_database()
        stack.callback(lab.databases.drop_database, database.name)
        port, node_port = lab.ports.get_port(), lab.ports.get_port()

        def start() -> Process:
            process = lab.launcher.start(
                "storage_controller",
                [
                    lab.engines.storage_controller.path,
                    *("--listen", f"127.0.0.1:{port}"),
                    *("--database-url", database.url),
                    *("--dev", "--heartbeat-interval", "5s"),
                ],
                log_path=lab.directory / "storage_controller.log",
                env=os.environ,
            )
            stack.callback(_kill, process)
            wait_for(
                lambda: probe(port, "/ready") == 200 or None,
                what="the controller to be ready",
                timeout=_START_TIMEOUT,
                alive=process,
            )
            return process

        _kill(start())
        _fill(database.url, shards, node_port)
        return asyncio.run(_under_load(start, shards, port, node_port, seconds))


def _kill(process: Process) -> None:
    process.kill()
    process.wait(10)


def _fill(url: str, shards: Sequence[_Shard], node_port: int) -> None:
    """Everything attached to one node, and an import of every tenant, as a controller would have left it."""
    statuses: dict[tuple[TenantId, TimelineId], dict[str, Any]] = {}
    for shard in shards:
        key = (shard.id.tenant_id, shard.timeline)
        statuses.setdefault(key, {})[str(shard.id.shard_index)] = {"InProgress": None}
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO nodes (node_id, scheduling_policy, listen_http_addr, listen_http_port,
                listen_pg_addr, listen_pg_port, availability_zone_id)
            VALUES (1, 'active', '127.0.0.1', %s, '127.0.0.1', 1, 'az')
            """,
            [node_port],
        )
        with cursor.copy(
            "COPY tenant_shards (tenant_id, shard_number, shard_count, shard_stripe_size, generation,"
            " generation_pageserver, placement_policy, config) FROM STDIN"
        ) as copy:
            for shard in shards:
                copy.write_row(
                    [
                        str(shard.id.tenant_id),
                        shard.id.shard_number,
                        shard.id.shard_count,
                        _STRIPE_SIZE,
                        _GENERATION,
                        1,
                        '{"Attached":0}',
                        "{}",
                    ]
                )
        with cursor.copy(
            "COPY timeline_imports (tenant_id, timeline_id, shard_statuses, created) FROM STDIN"
        ) as copy:
            for (tenant, timeline), status in statuses.items():
                copy.write_row([str(tenant), str(timeline), json.dumps(status), True])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ANALYZE")


async def _under_load(
    start: Callable[[], Process], shards: Sequence[_Shard], port: int, node_port: int, seconds: float
) -> _Measured:
    node = await asyncio.start_server(_node_handler(shards), "127.0.0.1", node_port)
    async with node:
        began = time.perf_counter()
        process = await asyncio.to_thread(start)
        ready = time.perf_counter() - began
        began = time.perf_counter()
        chunks = [shards[number::CONNECTIONS] for number in range(CONNECTIONS)]
        latencies = await asyncio.gather(*(_report(port, chunk, began + seconds) for chunk in chunks))
        elapsed = time.perf_counter() - began
        rss = psutil.Process(process.pid).memory_info().rss
    ordered = sorted(latency for own in latencies for latency in own)
    return _Measured(ready, len(ordered) / elapsed, ordered, rss)


async def _report(port: int, shards: Sequence[_Shard], until: float) -> list[float]:
    """One pageserver's connection: reports one shard's progress after the other. Seconds per answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    latencies = []
    completed = 0
    try:
        while time.perf_counter() < until:
            completed += 1
            for shard in shards:
                began = time.perf_counter()
                if began >= until:
                    break
                writer.write(_status_post(shard, completed))
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(_content_length(head))
                if not head.startswith(b"HTTP/1.1 200 "):
                    raise RuntimeError(f"a status was refused: {head!r}")
                latencies.append(time.perf_counter() - began)
    finally:
        writer.close()
    return latencies


def _status_post(shard: _Shard, completed: int) -> bytes:
    status = InProgress(ShardImportProgress(1_000_000, completed, 2**64 - 1, 512 * 1024))
    body = codec.encode(PutImportStatusRequest(shard.id, shard.timeline, status, _GENERATION))
    return (
        b"POST /upcall/v1/timeline_import_status HTTP/1.1\r\nHost: controller\r\n"
        b"Content-Type: application/json\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _node_handler(shards: Sequence[_Shard]) -> Any:
    """The pageserver that has every shard, as far as a starting controller asks."""
    listing = codec.encode(
        {
            "tenant_shards": [
                (
                    str(shard.id),
                    LocationConfig(
                        mode=LocationConfigMode.ATTACHED_SINGLE,
                        tenant_conf={},
                        generation=_GENERATION,
                        shard_number=shard.id.shard_number,
                        shard_count=shard.id.shard_count,
                        shard_stripe_size=_STRIPE_SIZE,
                    ),
                )
                for shard in shards
            ]
        }
    )

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = listing if b"location_config" in head.split(b"\r\n")[0] else b'{"utilization_score": 1}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    return handle
