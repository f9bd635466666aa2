"""The life of the process: start in order, serve, stop in order."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from reattach.api.ids import NodeId, TenantShardId, TimelineId
from reattach.api.lsn import Lsn
from reattach.api.upcall import NodeRegisterRequest
from reattach.pageserver.blocking import run_blocking
from reattach.pageserver.config.pageserver_toml import AuthType, PageServerConfig
from reattach.pageserver.context import Context
from reattach.pageserver.eviction import run_eviction
from reattach.pageserver.fullbackup.stream import Backup
from reattach.pageserver.fullbackup.timeline_backup import backup_timeline
from reattach.pageserver.gauges import tenant_gauges
from reattach.pageserver.http.api import Api
from reattach.pageserver.http.app import build_app
from reattach.pageserver.metrics import Metrics
from reattach.pageserver.page_service.server import serve_page_service
from reattach.pageserver.remote.deletion_queue import DeletionQueue
from reattach.pageserver.remote.open import open_storage
from reattach.pageserver.scope import Scope, keep_running, log_failure
from reattach.pageserver.secondary.upload import upload_heatmaps
from reattach.pageserver.tenant.delete import remove_foreign
from reattach.pageserver.tenant.location import LocationConf, write_location
from reattach.pageserver.tenant.manager import TenantManager
from reattach.pageserver.tenant.restart import (
    RestartPlan,
    plan_emergency_restart,
    plan_restart,
    scan_tenants,
)
from reattach.pageserver.upcalls import ControllerClient
from reattach.runtime.auth import TokenAuth
from reattach.runtime.logs import span
from reattach.runtime.serve import HttpServer, install_signals

log = logging.getLogger(__name__)

_DELETION_FLUSH_SECONDS = 5.0
_IMMEDIATE_EXIT_CODE = 111


@dataclass(frozen=True, slots=True)
class Sockets:
    """Bound, not yet listening."""

    http: socket.socket
    pg: socket.socket
    https: socket.socket | None = None


@dataclass(slots=True)
class PageServer:
    """One process. `registration`: what to tell the controller about this node, if anything."""

    node_id: NodeId
    config: PageServerConfig
    registration: NodeRegisterRequest | None
    sockets: Sockets
    auth: TokenAuth | None
    version: str
    _background: Scope = field(default_factory=Scope)

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT, also while it still starts. Raises OSError and ValueError."""
        stop = install_signals(
            signal.SIGTERM, signal.SIGINT, immediate={signal.SIGQUIT: _IMMEDIATE_EXIT_CODE}
        )
        context = self._open()
        tenants = TenantManager(context)
        context.metrics.add_gauges(tenant_gauges(tenants, self.version))
        stopping = asyncio.create_task(stop.wait())
        starting = asyncio.create_task(self._start(context, tenants))
        await asyncio.wait({stopping, starting}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            log.info("Got signal, terminating before start-up is complete")
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        starting.result()
        await self._serve(context, tenants, stopping)

    def _open(self) -> Context:
        config = self.config
        storage = open_storage(config.remote_storage)
        controller = ControllerClient(config.control_plane_api, config.control_plane_api_token)
        metrics = Metrics()
        deletions = DeletionQueue(
            config.workdir / "deletion", storage, controller, metrics, sync=not config.no_sync
        )
        return Context(self.node_id, config, storage, controller, deletions, metrics)

    async def _start(self, context: Context, tenants: TenantManager) -> None:
        """Re-attaches and starts the tenants. Nobody is served before, so that nobody sees an old state."""
        self._background.spawn(keep_running("deletion queue", context.deletions.run))
        with span("init_tenant_mgr"):
            local = await run_blocking(scan_tenants, context.tenants_directory)
            plan = await self._plan_restart(context, local)
            attached = {
                id_: conf.generation for id_, conf in plan.start.items() if conf.generation is not None
            }
            await context.deletions.recover(attached)
            for shard_id, conf in plan.remove.items():
                log.info("tenant %s does not belong here, removing it", shard_id)
                removal = remove_foreign(context, shard_id, conf)
                self._background.spawn(log_failure(f"removal of tenant {shard_id}", removal))
            await run_blocking(_write_locations, context, plan.start)
            tenants.start(plan.start)
            log.info("initial load of %d tenants started", len(plan.start))

    async def _plan_restart(
        self, context: Context, local: Mapping[TenantShardId, LocationConf | None]
    ) -> RestartPlan:
        if self.config.control_plane_emergency_mode:
            log.error("Emergency mode! Tenants are attached unsafely in their last known generation")
            return plan_emergency_restart(local)
        answer = await context.controller.re_attach(
            self.node_id, self.registration, empty_local_disk=not local
        )
        log.info("re-attach: the controller wants %d tenants here, %d are", len(answer), len(local))
        return plan_restart(local, answer)

    async def _serve(self, context: Context, tenants: TenantManager, stopping: asyncio.Task[bool]) -> None:
        api = Api(context, tenants)
        http_auth = self.auth if self.config.http_auth_type is AuthType.NEON_JWT else None
        app = build_app(api, http_auth)
        servers = [HttpServer(app, self.sockets.http)]
        if self.sockets.https is not None:
            servers.append(HttpServer(app, self.sockets.https, certificate=self.config.certificate))
            log.info("serving HTTPS on %s", self.config.listen_https_addr)
        serving = [asyncio.create_task(server.serve()) for server in servers]
        pages = asyncio.create_task(self._serve_pages(tenants))
        self._background.spawn(keep_running("heatmap uploads", lambda: upload_heatmaps(tenants)))
        self._background.spawn(keep_running("eviction", lambda: run_eviction(context, tenants, api.evicting)))
        log.info("serving HTTP on %s, pages on %s", self.config.listen_http_addr, self.config.listen_pg_addr)
        await asyncio.wait({stopping, *serving, pages}, return_when=asyncio.FIRST_COMPLETED)
        log.info("Got signal, terminating gracefully")
        pages.cancel()
        await asyncio.gather(pages, return_exceptions=True)
        await tenants.shutdown()
        await self._flush_deletions(context)
        await self._background.close()
        for server in servers:
            server.stop()
        await asyncio.gather(*serving)
        log.info("shut down")

    async def _flush_deletions(self, context: Context) -> None:
        try:
            async with asyncio.timeout(_DELETION_FLUSH_SECONDS):
                await context.deletions.flush()
        except (OSError, TimeoutError) as e:
            log.warning("deletions were not persisted, objects may be left behind: %s", e)

    async def _serve_pages(self, tenants: TenantManager) -> None:
        async def open_(shard_id: TenantShardId, timeline_id: TimelineId, lsn: Lsn | None) -> Backup:
            shard = tenants.get_attached(shard_id)
            await shard.wait_active()
            return await backup_timeline(shard.active_timeline(timeline_id), lsn)

        auth = self.auth if self.config.pg_auth_type is AuthType.NEON_JWT else None
        await serve_page_service(self.sockets.pg, open_, None if auth is None else auth.claims)


def _write_locations(context: Context, confs: dict[TenantShardId, LocationConf]) -> None:
    """Leaves those out of `confs` that cannot be written: a restart must know who is attached here.

    The controller misses them, and attaches them again, until that succeeds.
    """
    for shard_id, conf in list(confs.items()):
        directory = context.tenant_directory(shard_id)
        try:
            (directory / "timelines").mkdir(parents=True, exist_ok=True)
            write_location(directory, conf, sync=context.sync)
        except OSError as e:
            log.error("tenant %s is not started, its directory cannot be written: %s", shard_id, e)
            del confs[shard_id]
