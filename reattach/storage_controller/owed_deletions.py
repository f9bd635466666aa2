"""Deleting tenants once more when a pageserver comes back that was silent while they were deleted.

Such a pageserver may have gone on writing, and nobody would ever look at a deleted tenant's objects again.
"""

from __future__ import annotations

import asyncio
import logging

from reattach.api.ids import NodeId, TenantId
from reattach.storage_controller.background import Background
from reattach.storage_controller.core.model import Node
from reattach.storage_controller.db import owed_deletions as table
from reattach.storage_controller.db.database import Database, until_available
from reattach.storage_controller.pageserver_client import PageserverClient, PageserverError
from reattach.storage_controller.state import State
from reattach.storage_controller.tenant_locks import TenantLocks

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0


class OwedDeletions:
    """What is owed is in the database. It is done while the node is available, and else when it is again."""

    def __init__(
        self,
        db: Database,
        state: State,
        client: PageserverClient,
        locks: TenantLocks,
        background: Background,
    ) -> None:
        self._db = db
        self._state = state
        self._client = client
        self._locks = locks
        self._background = background
        self._working: dict[NodeId, asyncio.Task[None]] = {}

    def silent_nodes(self) -> list[NodeId]:
        """The nodes that a deletion which begins now does not reach."""
        return sorted(node.id for node in self._state.nodes.values() if not node.is_available)

    def start(self, owing: NodeId) -> None:
        """Settles what `owing` owes, in the background, if it is available. If it is known no more, through
        another node."""
        if owing in self._working:
            self._working[owing].cancel()
        self._working[owing] = self._background.spawn(self._settle(owing), f"owed deletions of {owing}")

    async def _settle(self, owing: NodeId) -> None:
        for tenant in await until_available(lambda: table.of_node(self._db, owing)):
            while (node := self._node_for(owing)) is not None:
                async with self._locks.exclusive(tenant, "Owed deletion"):
                    if await self._settled(tenant, node):
                        await until_available(lambda tenant=tenant: table.settle(self._db, tenant, owing))  # type: ignore[misc]
                        break
                await asyncio.sleep(_AGAIN_SECONDS)

    def _node_for(self, owing: NodeId) -> Node | None:
        """A node that can carry it out. Only the one that owes knows when it has ended itself."""
        if owing in self._state.nodes:
            node = self._state.nodes[owing]
            return node if node.is_available else None
        return next((node for node in self._state.nodes.values() if node.is_available), None)

    async def _settled(self, tenant: TenantId, node: Node) -> bool:
        if self._state.shards_of(tenant):
            log.info("Tenant %s was created again, what node %s wrote for it before stays", tenant, node.id)
            return True
        log.info("Deleting tenant %s once more: node %s was silent when it was deleted", tenant, node.id)
        try:
            await self._client.delete_tenant(node, tenant)
        except PageserverError as e:
            log.info("Deleting tenant %s once more failed, will be tried again: %s", tenant, e)
            return False
        return True
