"""How fast a storage controller with many tenants starts and records progress, and in how much memory."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from reattach.api import codec
from reattach.api.ids import TenantId, TenantShardId, TimelineId
from reattach.api.import_status import InProgress, ShardImportProgress
from reattach.api.location import LocationConfig, LocationConfigMode
from reattach.api.upcall import PutImportStatusRequest
from reattach.fixtures.http_probe import probe
from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.postgres.databases import DatabaseServer
from reattach.fixtures.processes import Launcher, Process, wait_for

MIN_STATUS_POSTS_PER_SECOND = 300.0

_GENERATION = 1
_STRIPE_SIZE = 2048
_START_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class ControllerResult:
    """Latencies in milliseconds, times in seconds, memory in bytes."""

    tenants: int
    shards_per_tenant: int
    connections: int
    ready_seconds: float
    """From starting the process to `/ready`, with every shard attached already."""
    status_posts: int
    status_posts_per_second: float
    status_post_p50_ms: float
    status_post_p99_ms: float
    rss_bytes: int
    """After the load."""

    @property
    def is_fast_enough(self) -> bool:
        return self.status_posts_per_second >= MIN_STATUS_POSTS_PER_SECOND


@dataclass(frozen=True, slots=True)
class _Shard:
    id: TenantShardId
    timeline: TimelineId


def measure(
    launcher: Launcher,
    ports: PortDistributor,
    database_server: DatabaseServer,
    executable: Path,
    directory: Path,
    *,
    tenants: int = 1000,
    shards_per_tenant: int = 4,
    connections: int = 64,
    seconds: float = 5.0,
) -> ControllerResult:
    """Starts a controller with that many tenants, each with an import, and reports progress for `seconds`.

    executable: of the controller. directory: for its log. Raises ProcessError if it does not get ready.
    """
    shards = [
        _Shard(TenantShardId(tenant, number, shards_per_tenant), timeline)
        for tenant, timeline in ((TenantId.generate(), TimelineId.generate()) for _ in range(tenants))
        for number in range(shards_per_tenant)
    ]
    with ExitStack() as stack:
        database = database_server.create_database()
        stack.callback(database_server.drop_database, database.name)
        port, node_port = ports.get_port(), ports.get_port()

        def start() -> Process:
            process = launcher.start(
                "storage_controller",
                [
                    executable,
                    *("--listen", f"127.0.0.1:{port}"),
                    *("--database-url", database.url),
                    *("--dev", "--heartbeat-interval", "5s"),
                ],
                log_path=directory / "storage_controller.log",
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
        return asyncio.run(_measure(start, shards, port, node_port, connections, seconds, shards_per_tenant))


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


async def _measure(
    start: Any,
    shards: Sequence[_Shard],
    port: int,
    node_port: int,
    connections: int,
    seconds: float,
    shards_per_tenant: int,
) -> ControllerResult:
    node = await asyncio.start_server(_node_handler(shards), "127.0.0.1", node_port)
    async with node:
        began = time.perf_counter()
        process = await asyncio.to_thread(start)
        ready = time.perf_counter() - began
        began = time.perf_counter()
        chunks = [shards[number::connections] for number in range(connections)]
        latencies = await asyncio.gather(*(_report(port, chunk, began + seconds) for chunk in chunks))
        elapsed = time.perf_counter() - began
        rss = psutil.Process(process.pid).memory_info().rss
    ordered = sorted(latency for own in latencies for latency in own)
    return ControllerResult(
        tenants=len(shards) // shards_per_tenant,
        shards_per_tenant=shards_per_tenant,
        connections=connections,
        ready_seconds=ready,
        status_posts=len(ordered),
        status_posts_per_second=len(ordered) / elapsed,
        status_post_p50_ms=1000 * ordered[len(ordered) // 2],
        status_post_p99_ms=1000 * ordered[len(ordered) * 99 // 100],
        rss_bytes=rss,
    )


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
