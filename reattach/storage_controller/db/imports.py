"""The tables `timeline_imports` and `finished_imports`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from reattach.api import codec
from reattach.api.controller_points import Read, Write
from reattach.api.ids import ShardIndex, TenantId, TenantShardId, TimelineId
from reattach.api.import_status import Error, ShardImportStatus
from reattach.storage_controller.core import import_state
from reattach.storage_controller.db.database import Cursor, Database

ImportKey = tuple[TenantId, TimelineId]


@dataclass(frozen=True, slots=True)
class ImportRow:
    """An import.

    request: the client's timeline creation; None in rows that another controller wrote.
    created: every shard's pageserver has the timeline.
    history: what is known of each shard besides its status; shards that never reported are left out.
    finished: the control plane was told; then error is what it was told.
    """

    tenant: TenantId
    timeline: TimelineId
    statuses: dict[ShardIndex, ShardImportStatus]
    request: dict[str, Any] | None
    created: bool
    created_at: str
    history: dict[str, dict[str, Any]]
    finished: bool = False
    error: str | None = None

    @property
    def key(self) -> ImportKey:
        return self.tenant, self.timeline

    @property
    def is_complete(self) -> bool:
        return import_state.is_complete(self.statuses)

    @property
    def needs_creation(self) -> bool:
        return not self.created and self.request is not None and not self.is_complete

    @property
    def idempotency_key(self) -> str | None:
        return None if self.request is None else str(self.request["import_pgdata"]["idempotency_key"])

    def changed_at(self, shard: ShardIndex) -> str:
        """When the shard's status changed last, RFC 3339."""
        return str(self.history.get(str(shard), {}).get("changed_at", self.created_at))

    def jobs(self, shard: ShardIndex) -> int | None:
        """The number of jobs of the shard's plan, as far as it was ever reported."""
        jobs = self.history.get(str(shard), {}).get("jobs")
        return None if jobs is None else int(jobs)

    @property
    def shards(self) -> list[TenantShardId]:
        return [TenantShardId(self.tenant, s.shard_number, s.shard_count) for s in sorted(self.statuses)]


class StaleGeneration(Exception):
    """The caller's generation is not the shard's current one (I4)."""


class UnknownTenantShard(Exception):
    """No such tenant shard."""


class UnknownImport(Exception):
    """No such import, or it does not have this shard. The text says which."""


_IMPORT = "tenant_id = %s AND timeline_id = %s"
_COLUMNS = "tenant_id, timeline_id, shard_statuses, request, created_at, shard_history"


def now_rfc3339() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(value: object) -> str:
    return codec.encode(value).decode()


def _row(row: Any, *, finished: bool) -> ImportRow:
    return ImportRow(
        tenant=TenantId(row.tenant_id),
        timeline=TimelineId(row.timeline_id),
        statuses=import_state.from_record(row.shard_statuses),
        request=row.request,
        created=True if finished else row.created,
        created_at=row.created_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        history=row.shard_history,
        finished=finished,
        error=row.error if finished else None,
    )


async def _find(cursor: Cursor, tenant: TenantId, timeline: TimelineId) -> ImportRow | None:
    parameters = [str(tenant), str(timeline)]
    await cursor.execute(f"SELECT {_COLUMNS}, created FROM timeline_imports WHERE {_IMPORT}", parameters)
    if row := await cursor.fetchone():
        return _row(row, finished=False)
    await cursor.execute(f"SELECT {_COLUMNS}, error FROM finished_imports WHERE {_IMPORT}", parameters)
    if row := await cursor.fetchone():
        return _row(row, finished=True)
    return None


async def find(db: Database, tenant: TenantId, timeline: TimelineId) -> ImportRow | None:
    """The import, also if it is finished."""

    async def body(cursor: Cursor) -> ImportRow | None:
        return await _find(cursor, tenant, timeline)

    return await db.read(Read.IMPORT, body)


async def list_unfinished(db: Database, tenant: TenantId | None = None) -> list[ImportRow]:
    """Imports that the control plane has not been told of, of `tenant` or of all."""
    where, parameters = ("", []) if tenant is None else ("WHERE tenant_id = %s", [str(tenant)])

    async def body(cursor: Cursor) -> list[ImportRow]:
        await cursor.execute(
            f"SELECT {_COLUMNS}, created FROM timeline_imports {where} ORDER BY created_at, timeline_id",
            parameters,
        )
        return [_row(row, finished=False) for row in await cursor.fetchall()]

    return await db.read(Read.LIST_IMPORTS, body)


async def importing_tenants(db: Database, tenants: Collection[TenantId]) -> set[TenantId]:
    """Those of `tenants` that have an unfinished import."""

    async def body(cursor: Cursor) -> set[TenantId]:
        await cursor.execute(
            "SELECT DISTINCT tenant_id FROM timeline_imports WHERE tenant_id = ANY(%s)",
            [[str(tenant) for tenant in tenants]],
        )
        return {TenantId(row.tenant_id) for row in await cursor.fetchall()}

    return await db.read(Read.LIST_IMPORTS, body)


async def insert(
    db: Database,
    tenant: TenantId,
    timeline: TimelineId,
    request: dict[str, Any],
    check_shards: Callable[[list[TenantShardId]], None],
) -> ImportRow:
    """Records a new import of every shard of the tenant; returns the present one if there is one.

    check_shards: sees the tenant's recorded shards and refuses by raising.
    """

    async def body(cursor: Cursor) -> ImportRow:
        present = await _find(cursor, tenant, timeline)
        if present is not None:
            return present
        await cursor.execute(
            "SELECT shard_number, shard_count FROM tenant_shards WHERE tenant_id = %s FOR SHARE",
            [str(tenant)],
        )
        ids = [TenantShardId(tenant, row.shard_number, row.shard_count) for row in await cursor.fetchall()]
        check_shards(ids)
        statuses = import_state.initial(shard.shard_index for shard in ids)
        await cursor.execute(
            f"""
            INSERT INTO timeline_imports (tenant_id, timeline_id, shard_statuses, request)
            VALUES (%s, %s, %s, %s) RETURNING {_COLUMNS}, created
            """,
            [str(tenant), str(timeline), _json(import_state.to_record(statuses)), _json(request)],
        )
        return _row(await cursor.fetchone(), finished=False)

    return await db.write(Write.INSERT_IMPORT, body)


async def mark_created(db: Database, tenant: TenantId, timeline: TimelineId) -> None:
    """Every shard's pageserver has the timeline."""

    async def body(cursor: Cursor) -> None:
        await cursor.execute(
            f"UPDATE timeline_imports SET created = true WHERE {_IMPORT}",
            [str(tenant), str(timeline)],
        )

    await db.write(Write.IMPORT_CREATED, body)


async def status(
    db: Database, shard: TenantShardId, timeline: TimelineId, generation: int
) -> ShardImportStatus:
    """A shard's recorded status. Raises StaleGeneration, UnknownTenantShard, UnknownImport."""

    async def body(cursor: Cursor) -> ShardImportStatus:
        await cursor.execute(
            """
            SELECT s.generation, i.shard_statuses, f.shard_statuses AS finished
            FROM tenant_shards s
            LEFT JOIN timeline_imports i ON i.tenant_id = s.tenant_id AND i.timeline_id = %(timeline)s
            LEFT JOIN finished_imports f ON f.tenant_id = s.tenant_id AND f.timeline_id = %(timeline)s
            WHERE s.tenant_id = %(tenant)s AND s.shard_number = %(number)s AND s.shard_count = %(count)s
            """,
            {
                "timeline": str(timeline),
                "tenant": str(shard.tenant_id),
                "number": shard.shard_number,
                "count": shard.shard_count,
            },
        )
        row = await cursor.fetchone()
        if row is None:
            raise UnknownTenantShard(f"{shard} shard not found")
        if row.generation != generation:
            raise StaleGeneration
        return recorded_status(shard, timeline, row.shard_statuses, row.finished, missing="import")

    return await db.read(Read.IMPORT_STATUS, body)


def recorded_status(
    shard: TenantShardId,
    timeline: TimelineId,
    unfinished: dict[str, Any] | None,
    finished: dict[str, Any] | None,
    *,
    missing: str,
) -> ShardImportStatus:
    """The shard's status out of the import's record. Raises UnknownImport."""
    slug = str(shard.shard_index)
    if unfinished is not None:
        if slug not in unfinished:
            raise UnknownImport(f"shard {slug} not found")
        return ShardImportStatus.from_json(unfinished[slug])
    if finished is not None and slug in finished:
        statuses = {shard: ShardImportStatus.from_json(status) for shard, status in finished.items()}
        if any(isinstance(status, Error) for status in statuses.values()):
            # It was not activated, so after a re-attach each shard's pageserver asks again (I11).
            return statuses[slug]
    raise UnknownImport(f"{missing} for {shard.tenant_id}/{timeline} not found")


async def finish(db: Database, tenant: TenantId, timeline: TimelineId, error: str | None) -> None:
    """Removes the import, of which the control plane was told; keeps what remains to be known of it."""

    async def body(cursor: Cursor) -> None:
        await cursor.execute(
            f"""
            WITH gone AS (DELETE FROM timeline_imports WHERE {_IMPORT} RETURNING {_COLUMNS})
            INSERT INTO finished_imports ({_COLUMNS}, error) SELECT {_COLUMNS}, %s FROM gone
            """,
            [str(tenant), str(timeline), error],
        )

    await db.write(Write.FINISH_IMPORT, body)


async def delete(db: Database, tenant: TenantId, timeline: TimelineId) -> None:
    """Removes every trace of the import."""

    async def body(cursor: Cursor) -> None:
        for table in ("timeline_imports", "finished_imports"):
            await cursor.execute(f"DELETE FROM {table} WHERE {_IMPORT}", [str(tenant), str(timeline)])

    await db.write(Write.DELETE_IMPORT, body)


async def delete_orphans(db: Database) -> list[ImportKey]:
    """Removes imports of tenants that do not exist, which no one could ever finish."""

    async def body(cursor: Cursor) -> list[ImportKey]:
        await cursor.execute(
            """
            DELETE FROM timeline_imports i
            WHERE NOT EXISTS (SELECT FROM tenant_shards s WHERE s.tenant_id = i.tenant_id)
            RETURNING i.tenant_id, i.timeline_id
            """
        )
        return [(TenantId(row.tenant_id), TimelineId(row.timeline_id)) for row in await cursor.fetchall()]

    return await db.write(Write.DELETE_ORPHAN_IMPORTS, body)
