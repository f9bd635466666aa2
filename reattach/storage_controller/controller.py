"""One controller: its parts, its start and its end."""

from __future__ import annotations

import asyncio
import logging
import time

from reattach.runtime.auth import TokenAuth
from reattach.storage_controller.background import Background
from reattach.storage_controller.compute_hook import ComputeHook
from reattach.storage_controller.config import Config
from reattach.storage_controller.control_plane import ControlPlane
from reattach.storage_controller.core.model import Intent, Shard
from reattach.storage_controller.db import nodes, schema, shards
from reattach.storage_controller.db.database import Database, until_available
from reattach.storage_controller.heartbeat import Heartbeat
from reattach.storage_controller.import_creation import ImportCreator
from reattach.storage_controller.import_finalization import Finalizer
from reattach.storage_controller.imports import Imports
from reattach.storage_controller.live_migration import live_migrate
from reattach.storage_controller.locations import Locations
from reattach.storage_controller.metrics import Metrics
from reattach.storage_controller.moving import Moving
from reattach.storage_controller.owed_deletions import OwedDeletions
from reattach.storage_controller.pageserver_client import PageserverClient
from reattach.storage_controller.pageservers import Pageservers
from reattach.storage_controller.reconciler import Reconciler
from reattach.storage_controller.state import State
from reattach.storage_controller.tenant_locations import TenantLocations
from reattach.storage_controller.tenant_locks import TenantLocks
from reattach.storage_controller.tenant_view import TenantView
from reattach.storage_controller.tenants import Tenants
from reattach.storage_controller.timelines import Timelines

log = logging.getLogger(__name__)

BACKGROUND_RECONCILE_INTERVAL = 20.0


class Controller:
    """Everything that requests act on."""

    def __init__(self, config: Config) -> None:
        tls = config.client_tls()
        self.config = config
        self.metrics = Metrics()
        self.background = Background()
        self.db = Database(config.database_url, self.metrics)
        self.state = State()
        self.locks = TenantLocks()
        self.auth = None
        if config.public_key is not None:
            self.auth = TokenAuth.from_pem(config.public_key, "--public-key (or PUBLIC_KEY)")
        self.started = asyncio.Event()
        control_plane = None
        if config.control_plane_url is not None:
            control_plane = ControlPlane(config.control_plane_url, config.control_plane_jwt_token, tls)
        self.client = PageserverClient(config.jwt_token, tls, config.use_https_pageserver_api, self.metrics)
        self.compute = ComputeHook(None if config.use_local_compute_notifications else control_plane)
        self.locations = Locations(self.db, self.state, self.client, self.compute, live_migrate)
        self.reconciler = Reconciler(
            self.state,
            self.locations,
            self.background,
            self.metrics,
            concurrency=config.reconciler_concurrency,
            long_threshold=config.long_reconcile_threshold,
        )
        self.pageservers = Pageservers(
            self.db,
            self.state,
            self.client,
            self.reconciler,
            self.background,
        )
        self.heartbeat = Heartbeat(
            self.state,
            self.client,
            self.pageservers,
            self.background,
            interval=config.heartbeat_interval,
            max_offline=config.max_offline_interval,
            max_warming_up=config.max_warming_up_interval,
        )
        self.owed = OwedDeletions(self.db, self.state, self.client, self.locks, self.background)
        self.pageservers.on_change = self.owed.start
        self.tenants = Tenants(self.db, self.state, self.reconciler, self.client, self.owed)
        self.tenant_view = TenantView(self.db, self.state, self.reconciler, self.tenants)
        self.tenant_locations = TenantLocations(self.db, self.state, self.reconciler, self.tenants)
        self.moving = Moving(
            self.state, self.tenants, self.reconciler, self.client, self.background, self.metrics
        )
        self.timelines = Timelines(self.db, self.state, self.client)
        self.imports = Imports(
            self.db,
            ImportCreator(self.db, self.state, self.client),
            Finalizer(self.db, self.state, self.client, control_plane, self.metrics),
            self.background,
            self.metrics,
        )

    async def load(self) -> None:
        """Reads the database into memory. Raises DatabaseUnavailable, SchemaTooNew."""
        await self.db.open(self.config.db_connect_timeout)
        await schema.migrate(self.db)
        found, bad = await nodes.load(self.db)
        self.state.nodes = {node.id: node for node in found}
        log.info("Loaded %d nodes from database.", len(self.state.nodes))
        loaded = await shards.load(self.db)
        self.state.left_out = loaded.left_out
        self.db.leave_out([*bad, *loaded.bad])
        for shard in loaded.shards:
            if shard.policy.is_attached and shard.generation_node in self.state.nodes:
                shard.intent = Intent(shard.generation_node)
            self.state.add(shard)
        log.info("Loaded %d shards from database.", len(loaded.shards))

    def start(self) -> None:
        """Begins to act. Requests are served from now on; `started` says when everything is known."""
        self.background.spawn(self._start(), "startup_reconcile")

    async def _start(self) -> None:
        began = time.monotonic()
        await self.heartbeat.round()
        self._adopt_secondaries()
        self.pageservers.is_acting = True
        self.pageservers.place_homeless()
        if self.config.address_for_peers is not None:
            await until_available(lambda: nodes.become_leader(self.db, str(self.config.address_for_peers)))
        spawned = self._reconcile_everything()
        await until_available(self.imports.resume)
        self.started.set()
        log.info(
            "Startup complete, spawned %d reconciliation tasks (%d shards total) in %.3f s",
            spawned,
            sum(1 for _ in self.state.shards()),
            time.monotonic() - began,
        )
        self.background.spawn(self.heartbeat.run(), "heartbeat")
        self.background.spawn(self._reconcile_forever(), "background_reconcile")

    def _adopt_secondaries(self) -> None:
        """Which nodes were secondaries is not recorded, but the nodes know."""
        for shard in self.state.shards():
            wanted = shard.policy.secondaries
            found = [
                node
                for node, location in sorted(shard.observed.items())
                if location is not None and not location.mode.is_attached and node != shard.intent.attached
            ]
            missing = [node for node in found if node not in shard.intent.secondary]
            secondary = (*missing, *shard.intent.secondary)[:wanted]
            shard.intent = Intent(shard.intent.attached, secondary)

    def _reconcile_everything(self) -> int:
        return sum(self.reconciler.request(shard) is not None for shard in list(self.state.shards()))

    async def _reconcile_forever(self) -> None:
        while True:
            await asyncio.sleep(BACKGROUND_RECONCILE_INTERVAL)
            self.pageservers.place_homeless()
            self._reconcile_everything()

    async def reconcile_all(self, timeout: float) -> int:
        """How many shards were not at their intent; waits for them. Raises Timeout, InternalError."""
        self.pageservers.place_homeless()
        waiters = [self.reconciler.request(shard) for shard in list(self.state.shards())]
        pending = [waiter for waiter in waiters if waiter is not None]
        await self.tenants.wait_for(pending, timeout)
        return len(pending)

    async def inconsistencies(self) -> list[str]:
        """Where memory and database differ."""
        found = []
        readable, bad = await nodes.load(self.db)
        recorded_nodes = {node.id: node for node in readable}
        for node_id in sorted(recorded_nodes.keys() | self.state.nodes.keys()):
            recorded, known = recorded_nodes.get(node_id), self.state.nodes.get(node_id)
            if recorded is None or known is None or recorded.scheduling != known.scheduling:
                found.append(
                    f"Node consistency failure: {node_id}: {recorded} in database, {known} in memory"
                )
        loaded = await shards.load(self.db)
        found += [row.reason for row in (*bad, *loaded.bad)]
        recorded_shards = {shard.id: shard for shard in loaded.shards}
        known_shards = {shard.id: shard for shard in self.state.shards()}
        for shard_id in sorted(recorded_shards.keys() | known_shards.keys()):
            stored, held = recorded_shards.get(shard_id), known_shards.get(shard_id)
            if stored is None or held is None or _durable(stored) != _durable(held):
                found.append(f"Shard consistency failure: {shard_id}: {stored} in database, {held} in memory")
        return found

    def refresh_metrics(self) -> None:
        """Brings the gauges up to date."""
        metrics, state = self.metrics, self.state
        all_shards = list(state.shards())
        metrics.tenant_shards.set(len(all_shards))
        metrics.pageserver_nodes.set(len(state.nodes))
        zones = {node.id: node.availability_zone for node in state.nodes.values()}
        metrics.schedule_az_violation.set(
            sum(
                s.preferred_az is not None and zones.get(s.intent.attached, s.preferred_az) != s.preferred_az
                for s in all_shards
                if s.intent.attached is not None
            )
        )
        for node in state.nodes.values():
            metrics.node_shards.labels(node.id).set(sum(s.intent.attached == node.id for s in all_shards))
        metrics.leadership_status.labels("leader").set(1)
        metrics.leadership_status.labels("stepped_down").set(0)
        metrics.leadership_status.labels("candidate").set(0)

    async def shutdown(self) -> None:
        await self.background.shutdown()
        await self.db.close()


def _durable(shard: Shard) -> tuple[object, ...]:
    return (
        shard.generation,
        shard.generation_node,
        shard.policy,
        shard.scheduling,
        shard.config,
        shard.stripe_size,
        shard.preferred_az,
    )
