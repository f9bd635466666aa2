"""The table `owed_deletions`: which pageservers were silent when a tenant was deleted."""

from __future__ import annotations

from reattach.api.controller_points import Read, Write
from reattach.api.ids import NodeId, TenantId
from reattach.storage_controller.db.database import Cursor, Database


async def of_node(db: Database, node: NodeId) -> list[TenantId]:
    """The deleted tenants that the node may have written for."""

    async def body(cursor: Cursor) -> list[TenantId]:
        await cursor.execute("SELECT tenant_id FROM owed_deletions WHERE node_id = %s ORDER BY 1", [node])
        return [TenantId(row.tenant_id) for row in await cursor.fetchall()]

    return await db.read(Read.OWED_DELETIONS, body)


async def settle(db: Database, tenant: TenantId, node: NodeId) -> None:
    """The node has nothing of the tenant any more, and remote storage neither."""

    async def body(cursor: Cursor) -> None:
        await cursor.execute(
            "DELETE FROM owed_deletions WHERE tenant_id = %s AND node_id = %s", [str(tenant), node]
        )

    await db.write(Write.DELETE_TENANT, body)
