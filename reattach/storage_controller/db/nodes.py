"""The tables `nodes` and `controllers`."""

from __future__ import annotations

from typing import Any

from reattach.api.controller import NodeSchedulingPolicy
from reattach.api.controller_points import Read, Write
from reattach.api.ids import NodeId
from reattach.api.upcall import NodeRegisterRequest
from reattach.storage_controller.core.model import Node
from reattach.storage_controller.db.database import Cursor, Database
from reattach.storage_controller.db.rows import BadRow, each, in_range, rfc3339, row_of, time_text


class NodeTombstoned(Exception):
    """The node was deleted and its id must not be used again."""


def _node(row: Any) -> Node:
    """Raises BadRow."""
    with row_of("nodes", f"node_id = {row.node_id}"):
        in_range("node_id", row.node_id, 0, 2**63 - 1)
        if row.lifecycle != "active":
            raise ValueError(f"not a lifecycle: {row.lifecycle!r}")
        ports = (row.listen_http_port, row.listen_pg_port, row.listen_https_port, row.listen_grpc_port)
        for port in ports:
            in_range("a port", port or 0, 0, 65535)
        return Node(_address(row), NodeSchedulingPolicy.from_stored(row.scheduling_policy))


def _address(row: Any) -> NodeRegisterRequest:
    return NodeRegisterRequest(
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


async def load(db: Database) -> tuple[list[Node], list[BadRow]]:
    """Every node that was not deleted, and the rows of which no node can be made."""

    async def body(cursor: Cursor) -> tuple[list[Node], list[BadRow]]:
        await cursor.execute("SELECT * FROM nodes WHERE lifecycle <> 'deleted' ORDER BY node_id")
        return each(await cursor.fetchall(), _node)

    return await db.read(Read.LOAD_NODES, body)


async def save(db: Database, node: NodeRegisterRequest) -> None:
    """Inserts a node or changes its addresses. Raises NodeTombstoned, BadRow."""

    async def body(cursor: Cursor) -> None:
        await cursor.execute("SELECT * FROM nodes WHERE node_id = %s", [node.node_id])
        row = await cursor.fetchone()
        if row is not None and row.lifecycle == "deleted":
            raise NodeTombstoned
        if row is not None:
            _node(row)
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
    """Address and start time (RFC 3339) of the recorded leader. Raises BadRow."""

    async def body(cursor: Cursor) -> tuple[str, str] | None:
        await cursor.execute(
            f"SELECT address, {rfc3339('started_at')} FROM controllers c ORDER BY c.started_at DESC LIMIT 1"
        )
        row = await cursor.fetchone()
        if row is None:
            return None
        with row_of("controllers", f"address = {row.address}"):
            return row.address, time_text(row.started_at)

    return await db.read(Read.LEADER, body)
