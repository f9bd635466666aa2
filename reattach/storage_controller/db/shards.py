"""The table `tenant_shards`: generations, and to whom they were issued."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
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


class ShardNotAttachable(Exception):
    """The shard is gone, or its policy no longer wants it attached."""


class NodeDeleted(Exception):
    """A deleted node asked for its tenants."""


@dataclass(frozen=True, slots=True)
class Issued:
    """The generation that the database holds for a shard, and the node that it was issued to."""

    generation: int | None
    node: NodeId | None


_SHARD = "tenant_id = %s AND shard_number = %s AND shard_count = %s"


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
    issued = _issued(row)
    return Shard(
        id=_id(row),
        stripe_size=row.shard_stripe_size,
        generation=issued.generation,
        generation_node=issued.node,
        policy=PlacementPolicy.from_json(json.loads(row.placement_policy)),
        config=json.loads(row.config),
        scheduling=ShardSchedulingPolicy(json.loads(row.scheduling_policy)),
        preferred_az=row.preferred_az_id,
    )


async def load(db: Database, tenant: TenantId | None = None) -> list[Shard]:
    """The shards of `tenant`, or all, in order."""

    async def body(cursor: Cursor) -> list[Shard]:
        return await _select(cursor, tenant)

    return await db.read(Read.LOAD_SHARDS, body)


async def _select(cursor: Cursor, tenant: TenantId | None) -> list[Shard]:
    where, parameters = ("", []) if tenant is None else ("WHERE tenant_id = %s", [str(tenant)])
    await cursor.execute(
        f"SELECT * FROM tenant_shards {where} ORDER BY tenant_id, shard_count, shard_number",
        parameters,
    )
    return [_shard(row) for row in await cursor.fetchall()]


async def insert_tenant(db: Database, shards: Sequence[Shard]) -> list[Shard]:
    """Inserts a new tenant's shards. If the tenant has shards already, changes nothing and returns those."""

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


async def increment_generation(db: Database, shard: TenantShardId, node: NodeId) -> int:
    """Issues the next generation to `node` and returns it. Raises ShardNotAttachable."""

    async def body(cursor: Cursor) -> int:
        await cursor.execute(
            f"""
            UPDATE tenant_shards SET generation = coalesce(generation, 0) + 1, generation_pageserver = %s
            WHERE {_SHARD} AND placement_policy LIKE '{{"Attached"%%' RETURNING generation
            """,
            [node, *key(shard)],
        )
        row = await cursor.fetchone()
        if row is None:
            raise ShardNotAttachable(f"shard {shard} is not to be attached any more")
        return int(row.generation)

    return await db.write(Write.INCREMENT_GENERATION, body)


async def re_attach(db: Database, node: NodeId) -> dict[TenantShardId, int]:
    """Issues a new generation of every shard that is attached to `node`, and resets its scheduling policy.

    Raises NodeDeleted.
    """

    async def body(cursor: Cursor) -> dict[TenantShardId, int]:
        await cursor.execute("SELECT lifecycle, scheduling_policy FROM nodes WHERE node_id = %s", [node])
        row = await cursor.fetchone()
        if row is not None and row.lifecycle == "deleted":
            raise NodeDeleted(f"Node {node} is deleted")
        await cursor.execute(
            """
            UPDATE tenant_shards SET generation = generation + 1
            WHERE generation_pageserver = %s RETURNING tenant_id, shard_number, shard_count, generation
            """,
            [node],
        )
        issued = {_id(r): int(r.generation) for r in await cursor.fetchall()}
        if row is not None:
            policy = after_re_attach(NodeSchedulingPolicy.from_stored(row.scheduling_policy))
            if policy.stored != row.scheduling_policy:
                await cursor.execute(
                    "UPDATE nodes SET scheduling_policy = %s WHERE node_id = %s", [policy.stored, node]
                )
        return issued

    return await db.write(Write.RE_ATTACH, body)


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
                """
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
