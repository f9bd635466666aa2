"""The tables `nodes` and `controllers`."""

from __future__ import annotations

from typing import Any

from reattach.api.controller import NodeSchedulingPolicy
from reattach.api.controller_points import Read, Write
from reattach.api.ids import NodeId
from reattach.api.upcall import NodeRegisterRequest
from reattach.storage_controller.core.model import Node
from reattach.storage_controller.db.database import Cursor, Database


class NodeTombstoned(Exception):
    """The node was deleted and its id must not be used again."""


def _node(row: Any) -> Node:
    address = NodeRegisterRequest(
        node_id=NodeId(row.node_id),
        listen_pg_addr=row.listen_pg_addr,
        listen_pg_port=row.listen_pg_port,
        listen_http_addr=row.listen_http_addr,
        listen_http_port=row.listen_http_port,
        availability_zone_id=row.availability_zone_id,
        listen_grpc_addr=row.listen_grpc_addr,
        listen_grpc_port=row.listen_grpc_port,
        listen_https_port=row.listen_https_port,
    )
    return Node(address, NodeSchedulingPolicy.from_stored(row.scheduling_policy))


async def load(db: Database) -> list[Node]:
    """Every node that was not deleted."""

    async def body(cursor: Cursor) -> list[Node]:
        await cursor.execute("SELECT * FROM nodes WHERE lifecycle <> 'deleted' ORDER BY node_id")
        return [_node(row) for row in await cursor.fetchall()]

    return await db.read(Read.LOAD_NODES, body)


async def save(db: Database, node: NodeRegisterRequest) -> None:
    """Inserts a node or changes its addresses. Raises NodeTombstoned."""

    async def body(cursor: Cursor) -> None:
        await cursor.execute("SELECT lifecycle FROM nodes WHERE node_id = %s", [node.node_id])
        row = await cursor.fetchone()
        if row is not None and row.lifecycle == "deleted":
            raise NodeTombstoned
        await cursor.execute(
            """
            INSERT INTO nodes (node_id, scheduling_policy, listen_http_addr, listen_http_port, listen_pg_addr,
                listen_pg_port, availability_zone_id, listen_https_port, listen_grpc_addr, listen_grpc_port)
            VALUES (%s, 'active', %s, %s, %s, %s, %s, %s, %s, %s)
            ON CONFLICT (node_id) DO UPDATE SET listen_https_port = excluded.listen_https_port,
                listen_grpc_addr = excluded.listen_grpc_addr, listen_grpc_port = excluded.listen_grpc_port
            """,
            [
                node.node_id,
                node.listen_http_addr,
                node.listen_http_port,
                node.listen_pg_addr,
                node.listen_pg_port,
                node.availability_zone_id,
                node.listen_https_port,
                node.listen_grpc_addr,
                node.listen_grpc_port,
            ],
        )

    await db.write(Write.INSERT_NODE, body)


async def set_scheduling(db: Database, node: NodeId, policy: NodeSchedulingPolicy) -> None:
    async def body(cursor: Cursor) -> None:
        await cursor.execute(
            "UPDATE nodes SET scheduling_policy = %s WHERE node_id = %s", [policy.stored, node]
        )

    await db.write(Write.UPDATE_NODE, body)


async def delete(db: Database, node: NodeId) -> None:
    """Leaves no attachment issued to the node. Its shards keep their generation."""

    async def body(cursor: Cursor) -> None:
        await cursor.execute(
            "UPDATE tenant_shards SET generation_pageserver = NULL WHERE generation_pageserver = %s", [node]
        )
        await cursor.execute("DELETE FROM nodes WHERE node_id = %s", [node])

    await db.write(Write.DELETE_NODE, body)


async def become_leader(db: Database, address: str) -> None:
    """Records this controller as the one that speaks for the database."""

    async def body(cursor: Cursor) -> None:
        await cursor.execute("DELETE FROM controllers")
        await cursor.execute("INSERT INTO controllers (address, started_at) VALUES (%s, now())", [address])

    await db.write(Write.BECOME_LEADER, body)


async def leader(db: Database) -> tuple[str, str] | None:
    """Address and start time (RFC 3339) of the recorded leader."""

    async def body(cursor: Cursor) -> tuple[str, str] | None:
        await cursor.execute("SELECT address, started_at FROM controllers ORDER BY started_at DESC LIMIT 1")
        row = await cursor.fetchone()
        return None if row is None else (row.address, row.started_at.isoformat())

    return await db.read(Read.LEADER, body)
