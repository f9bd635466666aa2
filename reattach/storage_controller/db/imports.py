"""The tables `timeline_imports` and `finished_imports`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from reattach.api import codec
from reattach.api.controller import TimelineCreateRequest
from reattach.api.controller_points import Read, Write
from reattach.api.ids import ShardIndex, TenantId, TenantShardId, TimelineId
from reattach.api.import_status import Error, ShardImportStatus
from reattach.api.location import ImportPgdata
from reattach.api.numbers import Count
from reattach.storage_controller.core import import_state
from reattach.storage_controller.db.database import Cursor, Database
from reattach.storage_controller.db.rows import (
    BadRow,
    each,
    json_of,
    rfc3339,
    row_of,
    tenant_id,
    time_text,
    timeline_id,
)

ImportKey = tuple[TenantId, TimelineId]


class ShardKnown(msgspec.Struct, frozen=True):
    """When a shard's status changed last, RFC 3339; and how many jobs its plan has, if it ever said so."""

    changed_at: str
    jobs: Count | None = None


ShardHistory = dict[str, ShardKnown]
"""By the shard's index, in text form."""


@dataclass(frozen=True, slots=True)
class ImportRow:
    """An import.

    request: the client's timeline creation, as it came; None in rows that another controller wrote.
    asked: the part of it that is about the import.
    created: every shard's pageserver has the timeline.
    history: what is known of each shard besides its status; shards that never reported are left out.
    finished: the control plane was told; then error is what it was told.
    """

    tenant: TenantId
    timeline: TimelineId
    statuses: dict[ShardIndex, ShardImportStatus]
    request: dict[str, Any] | None
    asked: ImportPgdata | None
    created: bool
    created_at: str
    history: ShardHistory
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
        return None if self.asked is None else self.asked.idempotency_key

    def changed_at(self, shard: ShardIndex) -> str:
        """When the shard's status changed last, RFC 3339."""
        known = self.history.get(str(shard))
        return self.created_at if known is None else known.changed_at

    def jobs(self, shard: ShardIndex) -> int | None:
        """The number of jobs of the shard's plan, as far as it was ever reported."""
        known = self.history.get(str(shard))
        return None if known is None else known.jobs

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
_READ = f"tenant_id, timeline_id, shard_statuses, request, {rfc3339('created_at')}, shard_history"


def now_rfc3339() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(value: object) -> str:
    return codec.encode(value).decode()


def statuses_of(text: str) -> dict[ShardIndex, ShardImportStatus]:
    """The column `shard_statuses`. Raises ValueError."""
    statuses = import_state.from_record(json_of(text, dict[str, object]))
    if not statuses:
        raise ValueError("no shard has a status")
    return statuses


def history_of(text: str) -> ShardHistory:
    """The column `shard_history`. Raises ValueError."""
    return json_of(text, ShardHistory)


def key_text(row: Any) -> str:
    """How a BadRow names the row."""
    return f"tenant_id = {row.tenant_id}, timeline_id = {row.timeline_id}"


def _unfinished(row: Any) -> ImportRow:
    """Raises BadRow."""
    with row_of("timeline_imports", key_text(row)):
        return _row(row, created=row.created)


def _finished(row: Any) -> ImportRow:
    """Raises BadRow."""
    with row_of("finished_imports", key_text(row)):
        return _row(row, created=True, finished=True, error=row.error)


def _row(row: Any, *, created: bool, finished: bool = False, error: str | None = None) -> ImportRow:
    """Raises ValueError."""
    request = asked = None
    if row.request is not None:
        request = json_of(row.request, dict[str, Any])
        asked = codec.convert(request, TimelineCreateRequest).import_pgdata
        if asked is None:
            raise ValueError("its request asks for no import")
    return ImportRow(
        tenant=tenant_id(row.tenant_id),
        timeline=timeline_id(row.timeline_id),
        statuses=statuses_of(row.shard_statuses),
        request=request,
        asked=asked,
        created=created,
        created_at=time_text(row.created_at),
        history=history_of(row.shard_history),
        finished=finished,
        error=error,
    )


async def _find(cursor: Cursor, tenant: TenantId, timeline: TimelineId) -> ImportRow | None:
    """Raises BadRow."""
    parameters = [str(tenant), str(timeline)]
    await cursor.execute(f"SELECT {_READ}, created FROM timeline_imports WHERE {_IMPORT}", parameters)
    if row := await cursor.fetchone():
        return _unfinished(row)
    await cursor.execute(f"SELECT {_READ}, error FROM finished_imports WHERE {_IMPORT}", parameters)
    if row := await cursor.fetchone():
        return _finished(row)
    return None


async def find(db: Database, tenant: TenantId, timeline: TimelineId) -> ImportRow | None:
    """The import, also if it is finished."""

    async def body(cursor: Cursor) -> ImportRow | None:
        return await _find(cursor, tenant, timeline)

    return await db.read(Read.IMPORT, body)


async def list_unfinished(db: Database, tenant: TenantId | None = None) -> list[ImportRow]:
    """Imports that the control plane has not been told of, of `tenant` or of all. Bad rows are left out."""
    where, parameters = ("", []) if tenant is None else ("WHERE tenant_id = %s", [str(tenant)])

    async def body(cursor: Cursor) -> tuple[list[ImportRow], list[BadRow]]:
        await cursor.execute(
            f"SELECT {_READ}, created FROM timeline_imports i {where} ORDER BY i.created_at, timeline_id",
            parameters,
        )
        return each(await cursor.fetchall(), _unfinished)

    found, bad = await db.read(Read.LIST_IMPORTS, body)
    db.leave_out(bad)
    return found


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

    Raises BadRow if that makes no sense.

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
            VALUES (%s, %s, %s, %s) RETURNING {_READ}, created
            """,
            [str(tenant), str(timeline), _json(import_state.to_record(statuses)), _json(request)],
        )
        return _unfinished(await cursor.fetchone())

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
    """A shard's recorded status. Raises StaleGeneration, UnknownTenantShard, UnknownImport, BadRow."""

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
        key = f"tenant_id = {shard.tenant_id}, timeline_id = {timeline}"
        unfinished = finished = None
        if row.shard_statuses is not None:
            with row_of("timeline_imports", key):
                unfinished = statuses_of(row.shard_statuses)
        elif row.finished is not None:
            with row_of("finished_imports", key):
                finished = statuses_of(row.finished)
        return recorded_status(shard, timeline, unfinished, finished, missing="import")

    return await db.read(Read.IMPORT_STATUS, body)


def recorded_status(
    shard: TenantShardId,
    timeline: TimelineId,
    unfinished: Mapping[ShardIndex, ShardImportStatus] | None,
    finished: Mapping[ShardIndex, ShardImportStatus] | None,
    *,
    missing: str,
) -> ShardImportStatus:
    """The shard's status out of the import's record. Raises UnknownImport."""
    index = shard.shard_index
    if unfinished is not None:
        if index not in unfinished:
            raise UnknownImport(f"shard {index} not found")
        return unfinished[index]
    failed = finished is not None and any(isinstance(status, Error) for status in finished.values())
    if finished is not None and failed and index in finished:
        # It was not activated, so after a re-attach each shard's pageserver asks again (I11).
        return finished[index]
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
    """Removes imports of tenants that do not exist, which no one could ever finish.

    Rows whose ids are none stay: whose they were is for a person to find out.
    """

    async def body(cursor: Cursor) -> list[ImportKey]:
        await cursor.execute(
            """
            DELETE FROM timeline_imports i
            WHERE NOT EXISTS (SELECT FROM tenant_shards s WHERE s.tenant_id = i.tenant_id)
                AND i.tenant_id ~ '^[0-9a-f]{32}$' AND i.timeline_id ~ '^[0-9a-f]{32}$'
            RETURNING i.tenant_id, i.timeline_id
            """
        )
        return [(TenantId(row.tenant_id), TimelineId(row.timeline_id)) for row in await cursor.fetchall()]

    return await db.write(Write.DELETE_ORPHAN_IMPORTS, body)
