"""Asking pageservers whether they are there."""

from __future__ import annotations

import asyncio
import logging

from reattach.api.controller import NodeAvailability
from reattach.api.controller_points import Point
from reattach.api.ids import NodeId
from reattach.runtime.failpoints import failpoints
from reattach.storage_controller.background import Background
from reattach.storage_controller.core.model import Node
from reattach.storage_controller.pageserver_client import PageserverClient, PageserverError
from reattach.storage_controller.pageservers import Pageservers
from reattach.storage_controller.state import State

log = logging.getLogger(__name__)

_FIRST_PROBE = 0.01
"""Seconds until a pageserver that has just called is asked whether it serves; doubles each time."""


class Heartbeat:
    """Tells `Pageservers` who comes and who has been silent for too long. Times in seconds."""

    def __init__(
        self,
        state: State,
        client: PageserverClient,
        pageservers: Pageservers,
        background: Background,
        *,
        interval: float,
        max_offline: float,
        max_warming_up: float,
    ) -> None:
        self._state = state
        self._client = client
        self._pageservers = pageservers
        self._background = background
        self._heartbeat_interval = interval
        self._max_offline = max_offline
        self._max_warming_up = max_warming_up
        self._probing: dict[NodeId, asyncio.Task[None]] = {}
        self._since = asyncio.get_running_loop().time()
        pageservers.on_arrival = self._probe

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_interval)
            await self.round()

    async def round(self) -> None:
        known = list(self._state.nodes.values())
        await asyncio.gather(*(self._heartbeat(node) for node in known))
        log.info(
            "Heartbeat round complete for %d nodes, %d warming-up, %d offline",
            len(known),
            sum(node.availability is NodeAvailability.WARMING_UP for node in known),
            sum(node.availability is NodeAvailability.OFFLINE for node in known),
        )

    async def _heartbeat(self, node: Node) -> bool:
        """Whether the node is available after it."""
        now = asyncio.get_running_loop().time
        try:
            node.utilization_score = await self._client.utilization_score(node)
        except PageserverError as e:
            await failpoints.hit(Point.HEARTBEAT_PRE_CONFIGURE)
            silent = now() - (self._since if node.last_heard is None else node.last_heard)
            if node.availability is NodeAvailability.WARMING_UP:
                overdue = now() - node.warming_up_since >= self._max_warming_up
            else:
                overdue = silent >= self._max_offline
            if overdue:
                if node.availability is not NodeAvailability.OFFLINE:
                    log.info("node %s going offline: %s", node.id, e)
                self._pageservers.take_offline(node)
            return False
        node.last_heard = now()
        if not node.is_available and node.id in self._state.nodes:
            await failpoints.hit(Point.HEARTBEAT_PRE_CONFIGURE)
            try:
                await self._pageservers.activate(node)
            except PageserverError as e:
                log.info("Failed to query node location configs, cannot activate node %s: %s", node.id, e)
        return node.is_available

    def _probe(self, node: Node) -> None:
        """Waits for a pageserver that has just called, instead of for the next round."""
        previous = self._probing.pop(node.id, None)
        if previous is not None:
            previous.cancel()
        self._probing[node.id] = self._background.spawn(
            self._probe_until_active(node), f"probe node {node.id}"
        )

    async def _probe_until_active(self, node: Node) -> None:
        delay = _FIRST_PROBE
        while delay < self._heartbeat_interval and not node.is_available:
            await asyncio.sleep(delay)
            if await self._heartbeat(node):
                break
            delay *= 1.5
