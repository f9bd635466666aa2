"""The pageservers: registration, re-attach, availability."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from reattach.api.controller import NodeAvailability, NodeConfigureRequest, NodeSchedulingPolicy
from reattach.api.ids import NodeId, TenantShardId
from reattach.api.location import LocationConfig, LocationConfigMode
from reattach.api.upcall import NodeRegisterRequest, ReAttachRequest, ReAttachResponse, ReAttachTenant
from reattach.runtime.errors import (
    BadRequest,
    Conflict,
    InternalError,
    NotFound,
    PreconditionFailed,
    ResourceUnavailable,
)
from reattach.storage_controller.background import Background
from reattach.storage_controller.core import scheduler
from reattach.storage_controller.core.model import Node, Shard
from reattach.storage_controller.db import nodes, shards
from reattach.storage_controller.db.database import Database
from reattach.storage_controller.pageserver_client import PageserverClient, PageserverError
from reattach.storage_controller.reconciler import Reconciler
from reattach.storage_controller.state import State

log = logging.getLogger(__name__)

_DETACHED = LocationConfig(mode=LocationConfigMode.DETACHED, tenant_conf={})


class Pageservers:
    """Keeps `State.nodes` and what follows from them for shards."""

    def __init__(
        self,
        db: Database,
        state: State,
        client: PageserverClient,
        reconciler: Reconciler,
        background: Background,
    ) -> None:
        self._db = db
        self._state = state
        self._client = client
        self._reconciler = reconciler
        self._background = background
        self.on_arrival: Callable[[Node], None] = lambda node: None
        """Called with each node that has just called, and may be serving any moment."""
        self.on_change: Callable[[NodeId], None] = lambda node: None
        """Called with each node that has become available, or that was dropped."""
        self.is_acting = False
        """Whether shards may be moved and reconciled. Not before it is known what every node has."""

    def get(self, node: NodeId) -> Node:
        """Raises NotFound."""
        found = self._state.nodes.get(node)
        if found is None:
            raise NotFound(f"Node {node} not registered")
        return found

    async def register(self, request: NodeRegisterRequest) -> Node:
        """Raises Conflict if the id belongs to another address, or to a deleted node."""
        known = self._state.nodes.get(request.node_id)
        if known is not None:
            if not _same_address(known.address, request):
                raise Conflict("Node is already registered with different address")
            if known.address == request:
                return known
        try:
            await asyncio.get_running_loop().getaddrinfo(request.listen_http_addr, request.listen_http_port)
        except (OSError, UnicodeError) as e:
            raise ResourceUnavailable(f"cannot resolve {request.listen_http_addr}: {e}") from e
        try:
            await nodes.save(self._db, request)
        except nodes.NodeTombstoned:
            raise Conflict(f"Node {request.node_id} is already exists")
        node = self._state.nodes.get(request.node_id)
        if node is None:
            node = self._state.nodes[request.node_id] = Node(request)
            log.info("Registered pageserver %s, now have %d", node, len(self._state.nodes))
        else:
            node.address = request
        self.on_arrival(node)
        return node

    async def drop(self, node_id: NodeId) -> None:
        """Forgets the node, without asking it. Its shards go elsewhere."""
        node = self.get(node_id)
        await nodes.delete(self._db, node_id)
        self._state.nodes.pop(node_id, None)
        node.availability = NodeAvailability.OFFLINE
        affected = self._state.shards_on(node_id)
        for shard in affected:
            shard.observed.pop(node_id, None)
            remaining = tuple(n for n in shard.intent.secondary if n != node_id)
            attached = None if shard.intent.attached == node_id else shard.intent.attached
            shard.intent = type(shard.intent)(attached, remaining)
        self._state.schedule_where_possible(affected)
        for shard in affected:
            self._reconciler.request(shard, interrupt=True)
        self.on_change(node_id)

    async def re_attach(self, request: ReAttachRequest) -> ReAttachResponse:
        """A pageserver has started: issues new generations of what it has attached."""
        if request.register is not None:
            await self.register(request.register)
        try:
            issued, refused = await shards.re_attach(self._db, request.node_id)
        except shards.NodeDeleted as e:
            raise InternalError(str(e)) from e
        for reason in refused:
            log.error("Not attached again: %s", reason)
        for shard_id, generation in issued.items():
            shard = self._state.shard(shard_id)
            if shard is not None and generation > (shard.generation or 0):
                shard.generation, shard.generation_node = generation, request.node_id
        on_node = self._state.shards_on(request.node_id)
        for shard in on_node:
            # Whether it still has the location on its disk shows when it is active.
            shard.observed[request.node_id] = None
        node = self._state.nodes.get(request.node_id)
        if node is not None:
            log.info("Marking %s warming-up on reattach", node)
            node.scheduling = shards.after_re_attach(node.scheduling)
            self._warm_up(node)
            self.on_arrival(node)
        return ReAttachResponse(
            [
                ReAttachTenant(
                    shard_id, generation, LocationConfigMode.ATTACHED_SINGLE, self._stripe_size(shard_id)
                )
                for shard_id, generation in sorted(issued.items())
            ]
            + [
                ReAttachTenant(shard.id, None, LocationConfigMode.SECONDARY, shard.stripe_size)
                for shard in on_node
                if request.node_id in shard.intent.secondary and shard.id not in issued
            ]
        )

    def _stripe_size(self, shard_id: TenantShardId) -> int:
        shard = self._state.shard(shard_id)
        return 0 if shard is None else shard.stripe_size

    async def configure(self, request: NodeConfigureRequest) -> None:
        """Raises NotFound, PreconditionFailed."""
        node = self.get(request.node_id)
        if request.scheduling in (NodeSchedulingPolicy.DRAINING, NodeSchedulingPolicy.FILLING):
            raise BadRequest("drain and fill are not supported by this controller")
        if request.scheduling is not None:
            await nodes.set_scheduling(self._db, node.id, request.scheduling)
            node.scheduling = request.scheduling
        match request.availability:
            case NodeAvailability.ACTIVE if not node.is_available:
                try:
                    await self.activate(node)
                except PageserverError as e:
                    raise PreconditionFailed(
                        f"Failed to query node location configs, cannot activate ({e})"
                    ) from e
            case NodeAvailability.OFFLINE:
                self.take_offline(node)
            case NodeAvailability.WARMING_UP:
                self._warm_up(node)
        self.place_homeless()

    @staticmethod
    def _warm_up(node: Node) -> None:
        node.epoch += 1
        node.availability = NodeAvailability.WARMING_UP
        node.warming_up_since = asyncio.get_running_loop().time()

    async def activate(self, node: Node) -> None:
        """Learns what the node has, makes it available, puts right what differs. Raises PageserverError."""
        epoch = node.epoch
        there = await self._client.list_locations(node)
        if node.epoch != epoch:
            return
        node.epoch += 1
        node.last_heard = asyncio.get_running_loop().time()
        unknown = [shard_id for shard_id in there if not self._state.is_recorded(shard_id)]
        for shard in list(self._state.shards()):
            self._observe(node.id, shard, there)
        node.availability = NodeAvailability.ACTIVE
        log.info("Node %s transition to active", node.id)
        for shard_id in unknown:
            self._background.spawn(self._detach_unknown(node, shard_id), f"detach {shard_id}")
        self.on_change(node.id)
        self.place_homeless()
        for shard in self._state.shards_on(node.id) if self.is_acting else ():
            self._reconciler.request(shard)

    def _observe(self, node: NodeId, shard: Shard, there: dict[TenantShardId, LocationConfig | None]) -> None:
        if self._reconciler.is_running(shard.id) and (shard.id in there or node in shard.observed):
            # A reconcile may have changed it after the node listed it.
            shard.observed[node] = None
        elif shard.id in there:
            shard.observed[node] = there[shard.id]
        else:
            shard.observed.pop(node, None)

    async def _detach_unknown(self, node: Node, shard_id: TenantShardId) -> None:
        if self._state.is_recorded(shard_id):
            return
        log.info("Detaching %s from node %s: it is not known", shard_id, node.id)
        try:
            await self._client.configure_location(node, shard_id, _DETACHED)
        except PageserverError as e:
            log.info("Detaching unknown %s from node %s failed: %s", shard_id, node.id, e)

    def place_homeless(self) -> None:
        """Schedules the shards that lack a place, as far as nodes allow."""
        if not self.is_acting:
            return
        homeless = [shard for shard in self._state.shards() if shard.needs_schedule]
        failed = {shard.id for shard in self._state.schedule_where_possible(homeless)}
        for shard in homeless:
            if shard.id not in failed:
                self._reconciler.request(shard)

    def take_offline(self, node: Node) -> None:
        """Moves what was attached to the node, if there is anywhere to move it to."""
        if node.availability is not NodeAvailability.OFFLINE:
            node.epoch += 1
            node.availability = NodeAvailability.OFFLINE
            log.info("Node %s transition to offline", node.id)
        for shard in self._state.shards_on(node.id):
            if node.id in shard.observed:
                shard.observed[node.id] = None
        self._evacuate(node)

    def _evacuate(self, node: Node) -> None:
        stranded = [shard for shard in self._state.shards() if shard.intent.attached == node.id]
        if not stranded or not self.is_acting:
            return
        if not any(other.may_schedule for other in self._state.nodes.values()):
            return
        before = {shard.id: shard.intent for shard in stranded}
        for shard in stranded:
            shard.intent = scheduler.leave_node(shard.intent, node.id)
        self._state.schedule_where_possible(stranded)
        moved = 0
        for shard in stranded:
            if shard.intent.attached is None:
                shard.intent = before[shard.id]
            elif self._reconciler.request(shard, interrupt=True) is not None:
                moved += 1
        log.info("Launched %d reconciler tasks for tenants affected by node %s going offline", moved, node.id)


def _same_address(a: NodeRegisterRequest, b: NodeRegisterRequest) -> bool:
    return (a.listen_http_addr, a.listen_http_port, a.listen_pg_addr, a.listen_pg_port) == (
        b.listen_http_addr,
        b.listen_http_port,
        b.listen_pg_addr,
        b.listen_pg_port,
    ) and a.availability_zone_id == b.availability_zone_id
