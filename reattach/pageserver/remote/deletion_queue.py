"""Deletes layers from remote storage, once the storage controller has confirmed that we still may."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from reattach.api import codec
from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.lsn import Lsn
from reattach.api.remote_path import timeline_prefix
from reattach.api.upcall import ValidateTenant
from reattach.pageserver.blocking import run_blocking
from reattach.pageserver.files import write_atomically
from reattach.pageserver.metrics import Metrics
from reattach.pageserver.remote.deletion_lists import (
    FLUSH_KEYS,
    HEADER_FILE,
    DeletionHeader,
    DeletionList,
    newest_generations,
)
from reattach.pageserver.remote.storage import RemoteError, RemoteStorage, retry_forever
from reattach.runtime.backoff import back_off
from reattach.runtime.failpoints import failpoints
from reattach.runtime.logs import span

log = logging.getLogger(__name__)

DELETE_BATCH = 1000
INTERVAL_SECONDS = 10.0
VALIDATE_BATCH = 128


class Validator(Protocol):
    """The controller's answer per tenant shard; shards that it does not know are missing."""

    async def validate(self, tenants: Sequence[ValidateTenant]) -> dict[TenantShardId, bool]: ...


@dataclass(frozen=True, slots=True)
class _LsnUpdate:
    tenant: TenantShardId
    generation: int
    lsn: Lsn
    publish: Callable[[Lsn], None]


class DeletionQueue:
    """From asking to deleted: collected in a list, persisted, validated, executed.

    A list that is persisted survives a crash. `run` must be running for anything after that to happen.
    """

    def __init__(
        self, directory: Path, storage: RemoteStorage, validator: Validator, metrics: Metrics, *, sync: bool
    ) -> None:
        self._directory = directory
        self._storage = storage
        self._validator = validator
        self._metrics = metrics
        self._sync = sync
        self._open = DeletionList.empty(1)
        self._closed: list[DeletionList] = []
        self._persisted: list[DeletionList] = []
        self._validated: list[DeletionList] = []
        self._pending: set[str] = set()
        self._lsn_updates: dict[tuple[TenantShardId, TimelineId], _LsnUpdate] = {}
        self._persisting = asyncio.Lock()
        self._wake = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []

    # Asking

    def push(
        self, tenant: TenantShardId, timeline: TimelineId, generation: int, names: Sequence[str]
    ) -> None:
        """Deletes objects of a timeline some time, if `generation` is still the tenant shard's then."""
        if not names:
            return
        self._metrics.deletions_submitted.inc(by=len(names))
        prefix = timeline_prefix(tenant, timeline)
        self._pending.update(f"{prefix}/{name}" for name in names)
        if not self._open.push(tenant, timeline, generation, list(names)):
            self._close()
            self._open.push(tenant, timeline, generation, list(names))
        if self._open.size > FLUSH_KEYS:
            self._close()
            self._wake.set()

    def push_lsn_update(
        self,
        tenant: TenantShardId,
        timeline: TimelineId,
        generation: int,
        lsn: Lsn,
        publish: Callable[[Lsn], None],
    ) -> None:
        """Calls `publish(lsn)` once the generation proved to be the current one."""
        self._lsn_updates[tenant, timeline] = _LsnUpdate(tenant, generation, lsn, publish)

    async def flush(self) -> None:
        """Returns when everything pushed before survives a crash. Raises OSError."""
        async with self._persisting:
            if self._open.size:
                self._close()
            while self._closed:
                await self._write(self._closed[0])
                self._persisted.append(self._closed.pop(0))

    async def flush_execute(self) -> None:
        """Returns when everything pushed before was deleted, or dropped as stale."""
        await self.flush()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(done)
        self._wake.set()
        await done

    async def settle(self, path: str) -> None:
        """Returns when no deletion of this object is pending, so that writing it anew is safe."""
        failures = 0
        while path in self._pending:
            await back_off(failures)
            try:
                await self.flush_execute()
            except OSError as e:
                failures += 1
                log.warning("deletion of %s is waited for (attempt %d): %s", path, failures, e)

    # Doing

    async def run(self) -> None:
        """Persists, validates and executes, until cancelled."""
        with span("deletion backend"):
            while True:
                try:
                    async with asyncio.timeout(INTERVAL_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    log.debug("time to look for deletions")
                self._wake.clear()
                waiters, self._waiters = self._waiters, []
                try:
                    await self.flush()
                    await self._validate()
                    await self._execute()
                except OSError as e:
                    self._metrics.deletion_unexpected_errors.inc()
                    log.error("deletion lists cannot be written: %s", e)
                    _resolve(waiters, e)
                _resolve(waiters, None)

    async def _validate(self) -> None:
        updates = list(self._lsn_updates.items())
        lists = list(self._persisted)
        newest = newest_generations(
            iter(
                [pair for each in lists for pair in each.generations()]
                + [(update.tenant, update.generation) for _, update in updates]
            )
        )
        if not newest:
            return
        valid = await self._valid_generations(newest)
        for key, update in updates:
            if valid.get(update.tenant) == update.generation:
                update.publish(update.lsn)
            else:
                log.info("Dropping remote consistent LSN update for tenant %s in stale generation", key[0])
                self._metrics.dropped_lsn_updates.inc()
            if self._lsn_updates.get(key) is update:
                del self._lsn_updates[key]
        for each in lists:
            dropped = each.drop_invalid(valid)
            for tenant, paths in dropped.items():
                log.info("Dropping stale deletions for tenant %s: %d objects", tenant, len(paths))
                self._metrics.deletions_dropped.inc(by=len(paths))
                self._pending.difference_update(paths)
            if dropped:
                await self._write(each)
            self._metrics.deletions_validated.inc(by=each.size)
        if lists:
            header = DeletionHeader.of(lists[-1].sequence)
            await self._write_file(HEADER_FILE, codec.encode(header))
        self._validated += lists
        self._persisted = self._persisted[len(lists) :]

    async def _valid_generations(self, newest: Mapping[TenantShardId, int]) -> dict[TenantShardId, int]:
        valid: dict[TenantShardId, int] = {}
        tenants = [ValidateTenant(tenant, generation) for tenant, generation in newest.items()]
        for start in range(0, len(tenants), VALIDATE_BATCH):
            await failpoints.sleep_for_returned_ms("control-plane-client-validate-sleep")
            batch = tenants[start : start + VALIDATE_BATCH]
            answer = await self._validator.validate(batch)
            valid |= {tenant.id: tenant.gen for tenant in batch if answer.get(tenant.id)}
        return valid

    async def _execute(self) -> None:
        while self._validated:
            paths = list(self._validated[0].paths())
            for start in range(0, len(paths), DELETE_BATCH):
                batch = paths[start : start + DELETE_BATCH]
                await retry_forever("DeleteObjects", lambda batch=batch: self._delete(batch))  # type: ignore[misc]
                self._metrics.deletions_executed.inc(by=len(batch))
            self._pending.difference_update(paths)
            executed = self._validated.pop(0)
            await run_blocking((self._directory / executed.file_name).unlink, missing_ok=True)

    async def _delete(self, paths: list[str]) -> None:
        await failpoints.pausable("deletion-queue-before-execute-pause")
        if await failpoints.hit("deletion-queue-before-execute") is not None:
            raise RemoteError("failpoint deletion-queue-before-execute")
        log.info("Deleting %d objects", len(paths))
        await self._storage.delete(paths)

    # Surviving

    async def recover(self, attached: Mapping[TenantShardId, int]) -> None:
        """Takes up what an earlier process left in the folder. `attached`: the generations of now."""
        await run_blocking(self._directory.mkdir, exist_ok=True)
        header, lists = await run_blocking(self._read)
        for each in lists:
            if each.sequence <= header.validated_sequence:
                self._validated.append(each)
            else:
                each.relabel(attached)
                self._persisted.append(each)
            self._pending.update(each.paths())
        last = max([header.validated_sequence, *(each.sequence for each in lists)])
        self._open.sequence = last + 1
        if lists:
            log.info("recovered %d deletion lists, %d validated", len(lists), len(self._validated))
            self._wake.set()

    def _read(self) -> tuple[DeletionHeader, list[DeletionList]]:
        header_path = self._directory / HEADER_FILE
        header = DeletionHeader.of(0)
        if header_path.exists():
            try:
                header = codec.decode(header_path.read_bytes(), DeletionHeader)
            except codec.DecodeError as e:
                log.error("unreadable deletion header, lists are validated again: %s", e)
        lists = []
        for path in sorted(self._directory.glob("*.list")):
            try:
                lists.append(DeletionList.from_json_bytes(path.read_bytes()))
            except OSError as e:
                log.error("deletion list %s is left out, it cannot be read: %s", path.name, e)
                self._metrics.deletion_unexpected_errors.inc()
            except codec.DecodeError as e:
                # Leaves objects behind, which is harmless; a deletion that was not meant is not.
                log.error("unreadable deletion list %s is dropped: %s", path.name, e)
                self._metrics.deletion_unexpected_errors.inc()
                path.unlink()
        for path in self._directory.glob("*.___temp"):
            path.unlink()
        return header, lists

    def _close(self) -> None:
        self._closed.append(self._open)
        self._open = DeletionList.empty(self._open.sequence + 1)

    async def _write(self, deletions: DeletionList) -> None:
        await self._write_file(deletions.file_name, deletions.to_json_bytes())

    async def _write_file(self, name: str, data: bytes) -> None:
        await run_blocking(write_atomically, self._directory / name, data, sync=self._sync)


def _resolve(waiters: list[asyncio.Future[None]], error: Exception | None) -> None:
    for waiter in waiters:
        if waiter.done():
            continue
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)
