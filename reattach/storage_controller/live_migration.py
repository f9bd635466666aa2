"""Moving an attachment while its origin goes on serving: stale, multi, single."""

from __future__ import annotations

import asyncio
import logging
import time

from reattach.api.controller_points import Point
from reattach.api.ids import NodeId, TimelineId
from reattach.api.location import LocationConfigMode
from reattach.api.lsn import Lsn
from reattach.runtime.failpoints import failpoints
from reattach.storage_controller.core import reconcile_plan as plan
from reattach.storage_controller.core.model import Shard
from reattach.storage_controller.locations import Locations, ReconcileError
from reattach.storage_controller.pageserver_client import PageserverError

log = logging.getLogger(__name__)

FLUSH_MS = 10_000


async def live_migrate(locations: Locations, shard: Shard, origin: NodeId, destination: NodeId) -> None:
    """After it `destination` is attached in a new generation and `origin` is a secondary.

    In between both are attached; the generation tells them apart. Raises what `Locations` raises.
    """
    if shard.generation is None:
        raise ReconcileError(f"shard {shard.id} has no generation to migrate")
    log.info("Live migrating %s from node %s to node %s", shard.id, origin, destination)
    stale = plan.attached_location(shard, shard.generation, LocationConfigMode.ATTACHED_STALE)
    await locations.put(shard, origin, stale, flush_ms=FLUSH_MS)
    baseline = await locations.client.list_timelines(locations.node(origin), shard.id)
    if shard.observed.get(destination) is not None:
        await _warm_up(locations, shard, destination)
    await _failpoint(Point.MIGRATE_PRE_GENERATION)
    generation = await locations.issue_generation(shard, destination)
    await _failpoint(Point.MIGRATE_POST_GENERATION)
    multi = plan.attached_location(shard, generation, LocationConfigMode.ATTACHED_MULTI)
    await locations.put(shard, destination, multi)
    await _failpoint(Point.MIGRATE_PRE_AWAIT_LSN)
    await _await_lsns(locations, shard, destination, baseline)
    if locations.compute.is_enabled:
        shard.notify_compute = True
        await locations.notify_compute(shard)
    await _failpoint(Point.MIGRATE_POST_NOTIFY)
    await locations.put(shard, origin, plan.secondary_location(shard))
    await _failpoint(Point.MIGRATE_POST_DETACH)
    single = plan.attached_location(shard, generation, LocationConfigMode.ATTACHED_SINGLE)
    await locations.put(shard, destination, single)
    log.info("✅ Migration complete: %s", shard.id)


async def _failpoint(point: Point) -> None:
    if await failpoints.hit(point) is not None:
        raise ReconcileError(f"failpoint {point}")


async def _warm_up(locations: Locations, shard: Shard, destination: NodeId) -> None:
    """Has the secondary download what it lacks. If it stays cold, the cut-over is only slower."""
    limits = shard.warm_up
    deadline = time.monotonic() + limits.total
    while True:
        node = locations.node(destination)
        try:
            if await locations.client.secondary_download(node, shard.id, limits.request):
                return
        except PageserverError as e:
            if not e.is_transient:
                log.info("Failed to prepare by downloading layers: %s: %s", shard.id, e)
                return
        if time.monotonic() >= deadline:
            log.info("Timed out after %s s downloading layers: %s", limits.total, shard.id)
            return
        await asyncio.sleep(min(0.5, max(deadline - time.monotonic(), 0)))


async def _await_lsns(
    locations: Locations, shard: Shard, destination: NodeId, baseline: dict[TimelineId, Lsn]
) -> None:
    """Until the destination knows as much WAL as the origin did. Timelines that it lacks do not count."""
    delay = 0.02
    while baseline:
        node = locations.node(destination)
        reached = await locations.client.list_timelines(node, shard.id)
        behind = {t: lsn for t, lsn in baseline.items() if t in reached and reached[t] < lsn}
        if not behind or await locations.client.wait_lsn(node, shard.id, behind):
            return
        await asyncio.sleep(delay)
        delay = min(delay * 2, 0.5)
