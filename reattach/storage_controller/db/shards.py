"""The table `tenant_shards`: generations, and to whom they were issued."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from reattach.api import codec
from reattach.api.controller import (
    NodeSchedulingPolicy,
    PlacementPolicy,
    ShardSchedulingPolicy,
)
from reattach.api.controller_points import Read, Write
from reattach.api.ids import NodeId, TenantId, TenantShardId
from reattach.storage_controller.core.model import Shard
from reattach.storage_controller.db.database import Cursor, Database
from reattach.storage_controller.db.rows import BadRow, each, in_range, json_of, row_of, tenant_id

MAX_GENERATION = 2**31 - 1
"""What the column holds."""


class ShardNotAttachable(Exception):
    """The shard is gone, or its policy no longer wants it attached."""


class NoGenerationLeft(ShardNotAttachable):
    """The shard has had every generation that there is."""

    def __init__(self, shard: TenantShardId) -> None:
        super().__init__(f"shard {shard} has no generation left: it has had {MAX_GENERATION}, the last one")


class NodeDeleted(Exception):
    """A deleted node asked for its tenants."""


@dataclass(frozen=True, slots=True)
class Issued:
    """The generation that the database holds for a shard, and the node that it was issued to."""

    generation: int | None
    node: NodeId | None


_SHARD = "tenant_id = %s AND shard_number = %s AND shard_count = %s"
_HAS_NEXT = f"coalesce(tenant_shards.generation, 0) < {MAX_GENERATION}"


def key(shard: TenantShardId) -> list[object]:
    """The primary key, as parameters."""
    return [str(shard.tenant_id), shard.shard_number, shard.shard_count]


def _id(row: Any) -> TenantShardId:
    return TenantShardId(TenantId(row.tenant_id), row.shard_number, row.shard_count)


def _issued(row: Any) -> Issued:
    node = row.generation_pageserver
    return Issued(row.generation, None if node is None else NodeId(node))


def policy_text(policy: PlacementPolicy | ShardSchedulingPolicy) -> str:
    """Policies are stored as JSON text."""
    return codec.encode(policy).decode()


def _shard(row: Any) -> Shard:
    """Raises BadRow."""
    with row_of("tenant_shards", _key_text(row)):
        issued = _issued(row)
        in_range("generation", issued.generation or 0, 0, MAX_GENERATION)
        return Shard(
            id=TenantShardId(tenant_id(row.tenant_id), row.shard_number, row.shard_count),
            stripe_size=in_range("shard_stripe_size", row.shard_stripe_size, 1, 2**31 - 1),
            generation=issued.generation,
            generation_node=issued.node,
            policy=PlacementPolicy.from_json(json_of(row.placement_policy, object)),
            config=json_of(row.config, dict[str, Any]),
            scheduling=json_of(row.scheduling_policy, ShardSchedulingPolicy),
            preferred_az=row.preferred_az_id,
        )


def _key_text(row: Any) -> str:
    return f"tenant_id = {row.tenant_id}, shard_number = {row.shard_number}, shard_count = {row.shard_count}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The shards, in order. A tenant with a bad row is in `left_out`, and none of its shards in `shards`."""

    shards: list[Shard]
    left_out: dict[TenantId, BadRow]
    bad: list[BadRow]


async def load(db: Database) -> Loaded:
    """All shards."""

    async def body(cursor: Cursor) -> Loaded:
        good: list[Shard] = []
        left_out: dict[TenantId, BadRow] = {}
        bad: list[BadRow] = []
        await cursor.execute("SELECT * FROM tenant_shards ORDER BY tenant_id, shard_count, shard_number")
        for row in await cursor.fetchall():
            try:
                good.append(_shard(row))
            except BadRow as e:
                bad.append(e)
                with suppress(ValueError):
                    left_out.setdefault(TenantId(row.tenant_id), e)
        return Loaded([shard for shard in good if shard.id.tenant_id not in left_out], left_out, bad)

    return await db.read(Read.LOAD_SHARDS, body)


async def _select(cursor: Cursor, tenant: TenantId) -> list[Shard]:
    """Raises BadRow."""
    await cursor.execute(
        "SELECT * FROM tenant_shards WHERE tenant_id = %s ORDER BY shard_count, shard_number", [str(tenant)]
    )
    return [_shard(row) for row in await cursor.fetchall()]


async def insert_tenant(db: Database, shards: Sequence[Shard]) -> list[Shard]:
    """Inserts a new tenant's shards. If the tenant has shards already, changes nothing and returns those.

    Raises BadRow.
    """

    async def body(cursor: Cursor) -> list[Shard]:
        present = await _select(cursor, shards[0].id.tenant_id)
        if present:
            return present
        await cursor.executemany(
            """
            INSERT INTO tenant_shards (tenant_id, shard_number, shard_count, shard_stripe_size, generation,
                generation_pageserver, placement_policy, config, scheduling_policy, preferred_az_id)
            VALUES (%s, %s, %s, %s, %s, NULL, %s, %s, %s, %s)
            """,
            [
                [
                    *key(s.id),
                    s.stripe_size,
                    s.generation,
                    policy_text(s.policy),
                    json.dumps(s.config),
                    policy_text(s.scheduling),
                    s.preferred_az,
                ]
                for s in shards
            ],
        )
        return []

    return await db.write(Write.INSERT_TENANT, body)


async def update_tenant(
    db: Database,
    tenant: TenantId,
    *,
    policy: PlacementPolicy | None = None,
    scheduling: ShardSchedulingPolicy | None = None,
    config: dict[str, Any] | None = None,
    generation: int | None = None,
) -> None:
    """Changes what is given. `generation` is only for shards that have none.

    A policy without an attached location withdraws the attachment.
    """
    changes: list[str] = []
    values: list[object] = []
    if policy is not None:
        changes.append("placement_policy = %s")
        values.append(policy_text(policy))
        if not policy.is_attached:
            changes.append("generation_pageserver = NULL")
    if scheduling is not None:
        changes.append("scheduling_policy = %s")
        values.append(policy_text(scheduling))
    if config is not None:
        changes.append("config = %s")
        values.append(json.dumps(config))
    if generation is not None:
        changes.append("generation = coalesce(generation, %s)")
        values.append(generation)
    if not changes:
        return

    async def body(cursor: Cursor) -> None:
        await cursor.execute(
            f"UPDATE tenant_shards SET {', '.join(changes)} WHERE tenant_id = %s",
            [*values, str(tenant)],
        )

    await db.write(Write.UPDATE_TENANT, body)


async def delete_tenant(db: Database, tenant: TenantId, owed_by: Collection[NodeId]) -> None:
    """Removes the tenant and everything that is recorded of its imports.

    owed_by: the nodes that have to be asked to delete it once more.
    """

    async def body(cursor: Cursor) -> None:
        for table in ("timeline_imports", "finished_imports", "tenant_shards"):
            await cursor.execute(f"DELETE FROM {table} WHERE tenant_id = %s", [str(tenant)])
        if owed_by:
            await cursor.executemany(
                "INSERT INTO owed_deletions (tenant_id, node_id) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                [[str(tenant), node] for node in owed_by],
            )

    await db.write(Write.DELETE_TENANT, body)


async def _check_next(cursor: Cursor, shard: TenantShardId) -> None:
    """Raises NoGenerationLeft."""
    await cursor.execute(f"SELECT FROM tenant_shards WHERE {_SHARD} AND NOT {_HAS_NEXT}", key(shard))
    if await cursor.fetchone() is not None:
        raise NoGenerationLeft(shard)


async def increment_generation(db: Database, shard: TenantShardId, node: NodeId) -> int:
    """Issues the next generation to `node` and returns it. Raises ShardNotAttachable."""

    async def body(cursor: Cursor) -> int:
        await cursor.execute(
            f"""
            UPDATE tenant_shards SET generation = coalesce(generation, 0) + 1, generation_pageserver = %s
            WHERE {_SHARD} AND {_HAS_NEXT} AND placement_policy LIKE '{{"Attached"%%' RETURNING generation
            """,
            [node, *key(shard)],
        )
        row = await cursor.fetchone()
        if row is None:
            await _check_next(cursor, shard)
            raise ShardNotAttachable(f"shard {shard} is not to be attached any more")
        return int(row.generation)

    return await db.write(Write.INCREMENT_GENERATION, body)


async def re_attach(
    db: Database, node: NodeId
) -> tuple[dict[TenantShardId, int], list[BadRow | NoGenerationLeft]]:
    """Issues a new generation of every shard that is attached to `node`, and resets its scheduling policy.

    Second: the shards that get none, and why. Raises NodeDeleted, BadRow.
    """

    async def body(cursor: Cursor) -> tuple[dict[TenantShardId, int], list[BadRow | NoGenerationLeft]]:
        await cursor.execute("SELECT lifecycle, scheduling_policy FROM nodes WHERE node_id = %s", [node])
        row = await cursor.fetchone()
        if row is not None and row.lifecycle == "deleted":
            raise NodeDeleted(f"Node {node} is deleted")
        columns = "tenant_id, shard_number, shard_count, generation"
        await cursor.execute(
            f"""
            UPDATE tenant_shards SET generation = coalesce(generation, 0) + 1
            WHERE generation_pageserver = %s AND {_HAS_NEXT} RETURNING {columns}
            """,
            [node],
        )
        issued, refused = each(await cursor.fetchall(), _issued_to)
        await cursor.execute(
            f"SELECT {columns} FROM tenant_shards WHERE generation_pageserver = %s AND NOT {_HAS_NEXT}",
            [node],
        )
        exhausted, unreadable = each(await cursor.fetchall(), _issued_to)
        if row is not None:
            with row_of("nodes", f"node_id = {node}"):
                policy = after_re_attach(NodeSchedulingPolicy.from_stored(row.scheduling_policy))
            if policy.stored != row.scheduling_policy:
                await cursor.execute(
                    "UPDATE nodes SET scheduling_policy = %s WHERE node_id = %s", [policy.stored, node]
                )
        return dict(issued), [*refused, *unreadable, *(NoGenerationLeft(shard) for shard, _ in exhausted)]

    return await db.write(Write.RE_ATTACH, body)


def _issued_to(row: Any) -> tuple[TenantShardId, int]:
    """Raises BadRow."""
    with row_of("tenant_shards", _key_text(row)):
        return _id(row), int(row.generation)


def after_re_attach(policy: NodeSchedulingPolicy) -> NodeSchedulingPolicy:
    """A restart ends what the node was prepared for; a pause, and a deletion as a pause, stay."""
    if policy in (NodeSchedulingPolicy.PAUSE, NodeSchedulingPolicy.DELETING):
        return NodeSchedulingPolicy.PAUSE
    return NodeSchedulingPolicy.ACTIVE


async def attach_hook(
    db: Database, shard: Shard, node: NodeId | None, generation_override: int | None
) -> Issued:
    """Attaches the shard, which need not exist, to `node` in a new generation; detaches it if None.

    Raises ShardNotAttachable when told to detach an unknown shard.
    """

    async def body(cursor: Cursor) -> Issued:
        if node is None:
            await cursor.execute(
                f"""
                UPDATE tenant_shards SET generation_pageserver = NULL, placement_policy = %s,
                    scheduling_policy = '"Active"' WHERE {_SHARD} RETURNING generation, generation_pageserver
                """,
                [policy_text(shard.policy), *key(shard.id)],
            )
        else:
            await cursor.execute(
                f"""
                INSERT INTO tenant_shards (tenant_id, shard_number, shard_count, shard_stripe_size,
                    generation, generation_pageserver, placement_policy, config, scheduling_policy,
                    preferred_az_id)
                VALUES (%(tenant)s, %(number)s, %(count)s, %(stripe)s, coalesce(%(override)s, 1), %(node)s,
                    %(policy)s, %(config)s, '"Active"', %(az)s)
                ON CONFLICT (tenant_id, shard_number, shard_count) DO UPDATE SET
                    generation = greatest(
                        coalesce(%(override)s, coalesce(tenant_shards.generation, 0) + 1),
                        coalesce(tenant_shards.generation, 0) + 1),
                    generation_pageserver = excluded.generation_pageserver,
                    placement_policy = excluded.placement_policy, config = excluded.config
                WHERE {_HAS_NEXT}
                RETURNING generation, generation_pageserver
                """,
                {
                    "tenant": str(shard.id.tenant_id),
                    "number": shard.id.shard_number,
                    "count": shard.id.shard_count,
                    "stripe": shard.stripe_size,
                    "override": generation_override,
                    "node": node,
                    "policy": policy_text(shard.policy),
                    "config": json.dumps(shard.config),
                    "az": shard.preferred_az,
                },
            )
        row = await cursor.fetchone()
        if row is None:
            await _check_next(cursor, shard.id)
            raise ShardNotAttachable(f"shard {shard.id} is not known")
        return _issued(row)

    return await db.write(Write.ATTACH_HOOK, body)


async def issued(db: Database, shards: Collection[TenantShardId]) -> dict[TenantShardId, Issued]:
    """What the database holds for `shards`; unknown ones are left out."""
    if not shards:
        return {}
    columns = list(zip(*(key(shard) for shard in shards), strict=True))

    async def body(cursor: Cursor) -> dict[TenantShardId, Issued]:
        await cursor.execute(
            """
            SELECT s.tenant_id, s.shard_number, s.shard_count, s.generation, s.generation_pageserver
            FROM unnest(%s::varchar[], %s::int[], %s::int[]) AS asked (tenant_id, shard_number, shard_count)
            JOIN tenant_shards s USING (tenant_id, shard_number, shard_count)
            """,
            [list(column) for column in columns],
        )
        return {_id(row): _issued(row) for row in await cursor.fetchall()}

    return await db.read(Read.GENERATIONS, body)
