"""Timelines that are not imports, and what all timelines share: forwarding, describing, deleting."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from reattach.api.ids import TenantId, TimelineId
from reattach.runtime.errors import Conflict, ResourceUnavailable
from reattach.storage_controller.core.model import Node, Shard
from reattach.storage_controller.core.reconcile_plan import is_attached_as_recorded
from reattach.storage_controller.db import shards
from reattach.storage_controller.db.database import Database
from reattach.storage_controller.pageserver_client import PageserverClient, PageserverError
from reattach.storage_controller.state import State

log = logging.getLogger(__name__)

DELETE_BUDGET = 25.0


class Timelines:
    def __init__(self, db: Database, state: State, client: PageserverClient) -> None:
        self._db = db
        self._state = state
        self._client = client

    def check_attached(self, tenant: TenantId) -> list[Shard]:
        """The tenant's shards, if each is attached. Raises NotFound, Conflict, ResourceUnavailable."""
        found = self._state.shards_of(tenant)
        if not found:
            raise self._state.missing(tenant, "Tenant not found")
        for shard in found:
            if not shard.policy.is_attached:
                raise Conflict(f"Shard {shard.id} tenant has policy {shard.policy!r}")
        for shard in found:
            if shard.intent.attached is None or not is_attached_as_recorded(shard):
                raise ResourceUnavailable("One or more shards in tenant is not yet attached")
        return found

    def node_of(self, shard: Shard) -> Node:
        """The node that the shard is attached to. Raises ResourceUnavailable, Conflict."""
        if shard.intent.attached is None:
            raise ResourceUnavailable("One or more shards in tenant is not yet attached")
        node = self._state.nodes.get(shard.intent.attached)
        if node is None:
            raise Conflict(f"Raced with removal of node {shard.intent.attached}")
        return node

    async def create(self, tenant: TenantId, body: dict[str, Any]) -> dict[str, Any]:
        """Creates a timeline on every shard. Raises ResourceUnavailable if a shard moved meanwhile."""
        found = self.check_attached(tenant)
        ids = [shard.id for shard in found]
        before = await shards.issued(self._db, ids)
        failure: PageserverError | None = None
        answers: list[dict[str, Any]] = []
        try:
            answers.append(await self._create_on(found[0], body))
            answers += await asyncio.gather(*(self._create_on(shard, body) for shard in found[1:]))
        except PageserverError as e:
            failure = e
        if await shards.issued(self._db, ids) != before:
            raise ResourceUnavailable("Tenant attachment changed, please retry")
        if failure is not None:
            raise failure
        return {**answers[0], "safekeepers": None}

    async def _create_on(self, shard: Shard, body: dict[str, Any]) -> dict[str, Any]:
        return await self._client.create_timeline(self.node_of(shard), shard.id, body)

    async def describe(self, tenant: TenantId, timeline: TimelineId) -> dict[str, Any]:
        found = self.check_attached(tenant)
        infos = await asyncio.gather(
            *(self._client.timeline(self.node_of(shard), shard.id, timeline) for shard in found)
        )
        return {"shards": list(infos)}

    async def delete(self, tenant: TenantId, timeline: TimelineId) -> bool:
        """Deletes the timeline on every shard. False if that takes longer than anybody would wait."""
        first = True
        try:
            async with asyncio.timeout(DELETE_BUDGET):
                while True:
                    found = self.check_attached(tenant)
                    status = await self._delete_everywhere(found, timeline)
                    if status == 404:
                        log.info("Deletion complete: %s/%s", tenant, timeline)
                        return True
                    if first:
                        log.info(
                            "Deletion already in progress, waiting to try again..."
                            if status == 409
                            else "Deletion accepted, waiting to try again..."
                        )
                    await asyncio.sleep(0.02 if first else 0.2)
                    first = False
        except TimeoutError:
            log.info("Deletion timed out waiting for 404: %s/%s", tenant, timeline)
            return False

    async def _delete_everywhere(self, found: Sequence[Shard], timeline: TimelineId) -> int:
        """Shard zero last: as long as it is there, the timeline is."""
        others = await asyncio.gather(*(self._delete_on(shard, timeline) for shard in found[1:]))
        if 409 in others:
            return 409
        if any(status != 404 for status in others):
            return 202
        return await self._delete_on(found[0], timeline)

    async def _delete_on(self, shard: Shard, timeline: TimelineId) -> int:
        try:
            return await self._client.delete_timeline(self.node_of(shard), shard.id, timeline)
        except PageserverError as e:
            if e.status == 412:
                raise ResourceUnavailable(f"{e.node}: {e}") from e
            raise

    def shard_zero(self, tenant: TenantId) -> Shard:
        """Raises NotFound."""
        found = self._state.shards_of(tenant)
        if not found:
            raise self._state.missing(tenant, f"Tenant {tenant} not found")
        return found[0]

    async def forward_get(self, tenant: TenantId, path: str) -> tuple[int, bytes]:
        """Asks shard zero's pageserver for `/v1/tenant/<shard zero><path>`: status and body of its answer.

        Raises ResourceUnavailable while the shard is on its way, PageserverError if it cannot be asked.
        """
        shard = self.shard_zero(tenant)
        node = self._newest(shard)
        answer = await self._client.send(node, "GET", f"/v1/tenant/{shard.id}{path}", timeout=30.0)
        tenant_is_missing = f"tenant {shard.id}".encode() in answer.body.lower()
        if answer.status == 404 and tenant_is_missing and not is_attached_as_recorded(shard):
            raise ResourceUnavailable(
                f"Pageserver {node} returned tenant 404 due to ongoing migration, retry later"
            )
        return answer.status, answer.body

    def _newest(self, shard: Shard) -> Node:
        """While the shard moves: the node with the newest generation."""
        attached = [
            (location.generation, node)
            for node, location in shard.observed.items()
            if location is not None and location.generation is not None
        ]
        node = self._state.nodes.get(max(attached)[1]) if attached else None
        return node if node is not None else self.node_of(shard)
