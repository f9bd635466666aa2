"""Which tenant shards are here, and one change at a time for each of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Container, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from reattach.api.ids import TenantShardId
from reattach.api.location import LocationConfigMode
from reattach.pageserver.blocking import run_blocking
from reattach.pageserver.context import Context
from reattach.pageserver.files import move_aside, remove_tree
from reattach.pageserver.remote.late_writes import remove_late_writes
from reattach.pageserver.scope import Scope, log_failure
from reattach.pageserver.secondary.tenant import SecondaryTenant
from reattach.pageserver.tenant.attach import attach
from reattach.pageserver.tenant.delete import delete_remote
from reattach.pageserver.tenant.location import LocationConf, write_location
from reattach.pageserver.tenant.shard import TenantShard
from reattach.pageserver.tenant.state import Phase
from reattach.runtime.errors import (
    BadRequest,
    Conflict,
    InternalError,
    NotFound,
    ResourceUnavailable,
    ShuttingDown,
)
from reattach.runtime.failpoints import failpoints

log = logging.getLogger(__name__)

DRAIN_SECONDS = 5.0

Location = TenantShard | SecondaryTenant


class TenantManager:
    """A slot per tenant shard: attached, secondary, or (None) being changed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._slots: dict[TenantShardId, Location | None] = {}
        self._warmups = asyncio.Semaphore(context.config.concurrent_tenant_warmup)
        self._background = Scope()
        self._is_ready = False
        self._is_shutting_down = False

    # Looking

    @property
    def slot_count(self) -> int:
        return len(self._slots)

    def attached(self) -> Iterator[TenantShard]:
        yield from (slot for slot in self._slots.values() if isinstance(slot, TenantShard))

    def secondaries(self) -> Iterator[SecondaryTenant]:
        yield from (slot for slot in self._slots.values() if isinstance(slot, SecondaryTenant))

    def locations(self) -> list[tuple[TenantShardId, LocationConf | None]]:
        """Every slot; None while it is being changed."""
        return [(id_, None if slot is None else slot.conf) for id_, slot in self._slots.items()]

    def get_location(self, shard_id: TenantShardId) -> LocationConf | None:
        """None while it is being changed. Raises NotFound."""
        if shard_id not in self._slots:
            raise NotFound(f"tenant {shard_id}")
        slot = self._slots[shard_id]
        return None if slot is None else slot.conf

    def get_attached(self, shard_id: TenantShardId) -> TenantShard:
        """Raises the ApiError for a shard that is not here, or not now."""
        self._check_ready()
        slot = self._slots.get(shard_id)
        if slot is None and shard_id in self._slots:
            raise ResourceUnavailable("Tenant not yet active")
        if not isinstance(slot, TenantShard):
            raise NotFound(f"tenant {shard_id}")
        return slot

    def get_secondary(self, shard_id: TenantShardId) -> SecondaryTenant:
        """Raises NotFound."""
        slot = self._slots.get(shard_id)
        if not isinstance(slot, SecondaryTenant):
            raise NotFound(f"Shard {shard_id} not found")
        return slot

    def _check_ready(self) -> None:
        if self._is_shutting_down:
            raise ShuttingDown
        if not self._is_ready:
            raise ResourceUnavailable("Tenant map is not initialized")

    # Changing

    def start(self, confs: dict[TenantShardId, LocationConf]) -> None:
        """Starts what an earlier process left behind, as the controller wants it now."""
        for shard_id, conf in confs.items():
            self._slots[shard_id] = self._spawn(shard_id, conf, lazy=True)
        self._is_ready = True

    async def upsert_location(
        self,
        shard_id: TenantShardId,
        conf: LocationConf,
        *,
        flush_seconds: float | None = None,
        lazy: bool = False,
    ) -> None:
        """Makes the tenant shard stand as `conf` says. Returns before an attachment is active.

        Raises BadRequest for a generation below the one attached, Conflict if someone else changes it.
        """
        current = self._slots.get(shard_id)
        if isinstance(current, TenantShard) and conf.generation is not None:
            if conf.generation < current.generation:
                raise BadRequest(
                    f"Generation {conf.generation:08x} is less than existing {current.generation:08x}"
                )
            if conf.generation == current.generation and current.state.phase is not Phase.BROKEN:
                await self._update_in_place(current, conf, flush_seconds)
                return
        if isinstance(current, SecondaryTenant) and not conf.is_attached:
            async with self._changing(shard_id) as slot:
                current.set_conf(conf)
                await self._write(shard_id, conf)
                slot.put(current)
            return
        async with self._changing(shard_id) as slot:
            if isinstance(current, TenantShard) and flush_seconds is not None:
                await current.flush(flush_seconds)
            slot.vacate()
            if isinstance(current, TenantShard):
                ended = _Ended(current)
                await current.shutdown(DRAIN_SECONDS if flush_seconds is not None else 0)
                await self._remove_late_writes(ended)
            elif isinstance(current, SecondaryTenant):
                await current.shutdown()
            await self._write(shard_id, conf)
            slot.put(self._spawn(shard_id, conf, lazy=lazy))

    async def _update_in_place(
        self, current: TenantShard, conf: LocationConf, flush_seconds: float | None
    ) -> None:
        async with self._changing(current.id) as slot:
            if conf.shard != current.conf.shard:
                raise BadRequest("shard parameters cannot change within a generation")
            if conf.mode is LocationConfigMode.ATTACHED_STALE and flush_seconds is not None:
                await current.flush(flush_seconds)
            await self._write(current.id, conf)
            current.set_conf(conf)
            slot.put(current)

    async def detach(self, shard_id: TenantShardId) -> None:
        """Ends what runs and removes what is on the disk; nothing there is fine. Remote storage stays."""
        if shard_id not in self._slots:
            self._check_ready()
            await self._remove_directory(shard_id)
            return
        async with self._detached(shard_id) as ended:
            if ended is not None:
                await self._remove_late_writes(ended)

    async def delete(self, shard_id: TenantShardId) -> None:
        """Detaches, then removes everything from remote storage. Meanwhile nobody can attach it here.

        An unsharded id stands for all of the tenant's shards. Raises Conflict if someone else changes one.
        """
        async with AsyncExitStack() as stack:
            held = {shard_id}
            while (other := self._next_shard(shard_id, held)) is not None:
                held.add(other)
                await stack.enter_async_context(self._detached(other))
            await stack.enter_async_context(self._detached(shard_id))
            await self._background.run(delete_remote(self._context.storage, shard_id))

    def _next_shard(self, shard_id: TenantShardId, held: Container[TenantShardId]) -> TenantShardId | None:
        """A shard here of the tenant that an unsharded id stands for, other than those held."""
        if shard_id.shard_count:
            return None
        ours = (id_ for id_ in self._slots if id_.tenant_id == shard_id.tenant_id and id_ not in held)
        return next(ours, None)

    @asynccontextmanager
    async def _detached(self, shard_id: TenantShardId) -> AsyncIterator[_Ended | None]:
        """Inside, nothing of the tenant shard runs or is on the disk, and nobody can change that."""
        ended = None
        current = self._slots.get(shard_id)
        async with self._changing(shard_id) as slot:
            slot.vacate()
            if isinstance(current, TenantShard):
                ended = _Ended(current)
                await current.shutdown(0)
            elif isinstance(current, SecondaryTenant):
                await current.shutdown()
            await self._remove_directory(shard_id)
            yield ended

    async def _remove_late_writes(self, ended: _Ended) -> None:
        """The attachment may have been given up long ago, and have written since."""
        await remove_late_writes(
            self._context.storage, ended.shard_id, ended.generation, ended.timelines, ended.importing
        )

    async def reset(self, shard_id: TenantShardId, *, drop_cache: bool) -> None:
        """Detaches and attaches again in the same generation. Raises NotFound."""
        current = self.get_attached(shard_id)
        async with self._changing(shard_id) as slot:
            slot.vacate()
            # An index upload that is cut off might arrive after the next one of this same generation.
            await current.shutdown(DRAIN_SECONDS)
            if drop_cache:
                await self._remove_directory(shard_id)
                await self._write(shard_id, current.conf)
            slot.put(self._spawn(shard_id, current.conf, lazy=False))

    async def set_tenant_conf(self, shard_id: TenantShardId, conf: LocationConf) -> None:
        """Another tenant configuration for an attached tenant shard, nothing else."""
        current = self.get_attached(shard_id)
        async with self._changing(shard_id) as slot:
            await self._write(shard_id, conf)
            current.set_conf(conf)
            slot.put(current)

    async def shutdown(self) -> None:
        """Ends every attachment. Files stay where they are."""
        self._is_shutting_down = True
        await self._background.close()
        slots = [slot for slot in self._slots.values() if slot is not None]
        await asyncio.gather(
            *(
                slot.shutdown(DRAIN_SECONDS) if isinstance(slot, TenantShard) else slot.shutdown()
                for slot in slots
            )
        )

    # Details

    def _spawn(self, shard_id: TenantShardId, conf: LocationConf, *, lazy: bool) -> Location:
        if not conf.is_attached:
            return SecondaryTenant(self._context, shard_id, conf)
        shard = TenantShard(self._context, shard_id, conf)
        shard.scope.spawn(attach(shard, self._warmups if lazy else None))
        return shard

    @asynccontextmanager
    async def _changing(self, shard_id: TenantShardId) -> AsyncIterator[_Slot]:
        """The exclusive right to change a slot. If the change fails, what was there and still lives stays."""
        self._check_ready()
        for id_ in (shard_id, TenantShardId.unsharded(shard_id.tenant_id)):
            if id_ in self._slots and self._slots[id_] is None:
                raise Conflict("Tenant is already being modified")
        slot = _Slot(self._slots.get(shard_id))
        self._slots[shard_id] = None
        try:
            with self._background.section():
                yield slot
        finally:
            self._fill(shard_id, slot.location)

    def _fill(self, shard_id: TenantShardId, location: Location | None) -> None:
        if location is None:
            self._slots.pop(shard_id, None)
        else:
            self._slots[shard_id] = location

    async def _write(self, shard_id: TenantShardId, conf: LocationConf) -> None:
        """Raises InternalError if the file cannot be written."""
        directory = self._context.tenant_directory(shard_id)
        try:
            if await failpoints.hit("tenant-config-before-write") is not None:
                raise OSError("tenant-config-before-write")
            await run_blocking(_write, directory, conf, self._context.sync)
        except OSError as e:
            raise InternalError(f"cannot write the tenant's configuration: {e}") from e

    async def _remove_directory(self, shard_id: TenantShardId) -> None:
        """The directory is gone on return; its content goes in the background."""
        aside = await run_blocking(move_aside, self._context.tenant_directory(shard_id))
        if aside is not None:
            self._background.spawn(log_failure(f"removal of {aside}", run_blocking(remove_tree, aside)))


class _Ended:
    """What an attachment had when it began to end."""

    def __init__(self, shard: TenantShard) -> None:
        self.shard_id, self.generation = shard.id, shard.generation
        self.importing = set(shard.importing)
        self.timelines = self.importing | set(shard.timelines) | shard.creating | shard.deleting


class _Slot:
    """What the slot will hold once the change is over; with nothing it will not be there."""

    def __init__(self, location: Location | None) -> None:
        self.location = location

    def vacate(self) -> None:
        """What was there is shut down from now on, so whatever fails does not bring it back."""
        self.location = None

    def put(self, location: Location) -> None:
        self.location = location


def _write(directory: Path, conf: LocationConf, sync: bool) -> None:
    (directory / "timelines").mkdir(parents=True, exist_ok=True)
    write_location(directory, conf, sync=sync)
