"""Serialisable transactions with bounded retry, on a pool of connections."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from reattach.api.controller_points import Read, Write, after, before
from reattach.runtime.backoff import soon
from reattach.runtime.errors import BadRequest, ResourceUnavailable, ShuttingDown
from reattach.runtime.failpoints import failpoints
from reattach.storage_controller.db import connection
from reattach.storage_controller.db.rows import BadRow
from reattach.storage_controller.metrics import Metrics

log = logging.getLogger(__name__)

T = TypeVar("T")

Cursor = AsyncCursor[Any]
"""Inside a transaction. Rows are named tuples."""

MAX_CONNECTIONS = 16
MAX_SERIALIZATION_RETRIES = 128
CONNECTION_TIMEOUT = 1.0
"""Seconds that a transaction waits for a free connection."""
RECONNECT_BUDGET = 1.5
"""Seconds that a transaction may spend on finding a connection that works."""
_POOL_SLICE = 0.1
"""The pool connects anew only when somebody asks, so waiting for it is asking again and again.

Whoever waits for others to be done does so before, in order.
"""

# Of two that insert the same row at once, one may be told of the other's row instead of the conflict.
_RETRIED = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.UniqueViolation,
)


class DatabaseUnavailable(ResourceUnavailable):
    """The database cannot be reached, or no connection came free in time. Nothing is known to be lost."""


class Unstorable(BadRequest):
    """A value that PostgreSQL cannot hold, such as a text with a NUL."""


class Database:
    """Runs transactions. Each may run more than once, so it must read what it depends on itself."""

    def __init__(self, url: str, metrics: Metrics) -> None:
        """Raises ValueError for what is no URL."""
        self._metrics = metrics
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._pool: AsyncConnectionPool[AsyncConnection[Any]] = AsyncConnectionPool(
            open=False,
            min_size=1,
            max_size=MAX_CONNECTIONS,
            timeout=_POOL_SLICE,
            max_idle=10,
            # The pool paces itself for servers that are away for minutes; requests bring their own pace.
            reconnect_timeout=0.05,
            kwargs=connection.arguments(url),
        )
        self._named: set[str] = set()

    async def open(self, timeout: float) -> None:
        """Waits until the database answers, for up to `timeout` seconds. Raises DatabaseUnavailable."""
        # Its complaints about lost connections are reported here, once and with the right severity.
        logging.getLogger("psycopg").setLevel(logging.CRITICAL)
        deadline = time.monotonic() + timeout
        await self._pool.open()
        while True:
            try:
                async with self._pool.connection():
                    return
            except (psycopg.OperationalError, PoolTimeout) as e:
                if time.monotonic() >= deadline:
                    raise DatabaseUnavailable(f"database did not answer in {timeout} s: {e}") from e
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        await self._pool.close()

    def leave_out(self, rows: Iterable[BadRow]) -> None:
        """Says once of each of them that it is left out."""
        for row in rows:
            if row.reason not in self._named:
                self._named.add(row.reason)
                log.error("Left out: %s", row.reason)

    async def read(self, operation: Read, body: Callable[[Cursor], Awaitable[T]]) -> T:
        """Raises DatabaseUnavailable, and whatever `body` raises."""
        return await self._run(operation, body)

    async def write(self, operation: Write, body: Callable[[Cursor], Awaitable[T]]) -> T:
        """Like `read`. When it raises DatabaseUnavailable, `body` may or may not have taken effect."""
        await failpoints.hit(before(operation))
        result = await self._run(operation, body)
        await failpoints.hit(after(operation))
        return result

    async def _run(self, operation: Read | Write, body: Callable[[Cursor], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(CONNECTION_TIMEOUT):
                await self._slots.acquire()
        except TimeoutError as e:
            self._metrics.database_query_error.labels("pool", operation).inc()
            raise DatabaseUnavailable(f"no database connection came free: {operation}") from e
        try:
            return await self._retry(operation, body)
        finally:
            self._slots.release()

    async def _retry(self, operation: Read | Write, body: Callable[[Cursor], Awaitable[T]]) -> T:
        began = time.monotonic()
        conflicts = failures = 0
        while True:
            started = time.monotonic()
            try:
                async with self._pool.connection() as session, session.cursor() as cursor:
                    result = await body(cursor)
                self._metrics.database_query_latency.labels(operation).observe(time.monotonic() - started)
                return result
            except _RETRIED as e:
                conflicts += 1
                self._metrics.database_query_error.labels("serialization", operation).inc()
                if conflicts > MAX_SERIALIZATION_RETRIES:
                    raise DatabaseUnavailable(f"database is too busy: {operation}: {e}") from e
                await asyncio.sleep(random.uniform(0, 0.002 * min(conflicts, 20)))
            except PoolClosed as e:
                raise ShuttingDown from e
            except (psycopg.OperationalError, psycopg.InterfaceError) as e:
                self._metrics.database_query_error.labels("connection", operation).inc()
                failures += 1
                if not _is_connection_loss(e) or time.monotonic() > began + RECONNECT_BUDGET:
                    raise DatabaseUnavailable(f"database is unavailable: {operation}: {e}") from e
                if failures == 1:
                    log.info("database connection failed, will retry: %s: %s", operation, e)
                if not isinstance(e, PoolTimeout):
                    # One broken connection mostly means that they all are.
                    await self._pool.drain()
                    await asyncio.sleep(0.01 * min(failures, 10))
            except psycopg.DataError as e:
                raise Unstorable(f"{operation}: {e}") from e
            except psycopg.Error as e:
                # Read-only after a failover, a table or a privilege that is gone: until somebody mends it.
                self._metrics.database_query_error.labels("refused", operation).inc()
                log.error("database refuses %s: %s", operation, e)
                raise DatabaseUnavailable(f"database refuses {operation}: {e}") from e


def _is_connection_loss(error: psycopg.Error) -> bool:
    """Whether another connection may do better: lost, refused, or its server is going down."""
    return error.sqlstate is None or error.sqlstate[:2] == "08" or error.sqlstate[:3] == "57P"


async def until_available(operation: Callable[[], Awaitable[T]]) -> T:
    """Runs `operation` until the database answers."""
    failures = 0
    while True:
        try:
            return await operation()
        except DatabaseUnavailable as e:
            failures += 1
            log.info("Waiting for the database: %s", e.msg)
            await asyncio.sleep(soon(failures))
