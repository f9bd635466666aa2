"""Having every shard's pageserver create an imported timeline, however often that is interrupted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from reattach.api.ids import TenantShardId
from reattach.api.import_status import InProgress
from reattach.runtime.backoff import back_off
from reattach.runtime.errors import ApiError
from reattach.storage_controller.attachment import attached_node
from reattach.storage_controller.core.model import Node
from reattach.storage_controller.db import imports, shards
from reattach.storage_controller.db.database import Database, DatabaseUnavailable
from reattach.storage_controller.db.imports import ImportKey, ImportRow
from reattach.storage_controller.pageserver_client import PageserverClient, PageserverError
from reattach.storage_controller.state import State

log = logging.getLogger(__name__)

_IN_PROGRESS = 429
_REFUSED = frozenset({400, 406, 409, 412})


@dataclass(slots=True)
class Creation:
    """A running creation.

    acknowledged: every pageserver has the timeline, or is at it; or the error that refuses it for good.
    durable: shards whose pageserver has confirmed that the timeline will survive it.
    """

    key: ImportKey
    acknowledged: asyncio.Future[None]
    last_error: str | None = None
    durable: set[TenantShardId] = field(default_factory=set)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def refuse(self, error: ApiError) -> None:
        if not self.acknowledged.done():
            self.acknowledged.set_exception(error)
            self.acknowledged.exception()

    def acknowledge(self) -> None:
        if not self.acknowledged.done():
            self.acknowledged.set_result(None)


class Refused(Exception):
    """A pageserver will never create this timeline."""

    def __init__(self, cause: PageserverError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class ImportCreator:
    """The row comes first, so that no pageserver ever has an import that is not recorded."""

    def __init__(self, db: Database, state: State, client: PageserverClient) -> None:
        self._db = db
        self._state = state
        self._client = client

    async def run(self, creation: Creation) -> None:
        """Until every shard's pageserver has the timeline for good, or one refuses it, or it is stopped.

        A refused import leaves nothing behind.
        """
        failures = 0
        while not creation.stopping.is_set():
            try:
                if await self._round(creation):
                    return
                failures += 1
            except Refused as e:
                if await self._undo(creation):
                    log.info("Creation of import %s/%s was refused: %s", *creation.key, e)
                    creation.refuse(e.cause.to_api_error())
                    return
                failures += 1
            except DatabaseUnavailable as e:
                creation.last_error = e.msg
                failures += 1
            if creation.last_error is not None:
                log.info("Creation of import %s/%s will be retried: %s", *creation.key, creation.last_error)
            try:
                async with asyncio.timeout(0.05 if failures < 3 else min(0.1 * 2 ** min(failures, 8), 3)):
                    await creation.stopping.wait()
            except TimeoutError:
                pass

    async def _round(self, creation: Creation) -> bool:
        """Asks every pageserver that has not confirmed. True if nothing is left to do. Raises Refused."""
        row = await imports.find(self._db, *creation.key)
        if row is None or row.finished or not row.needs_creation:
            creation.acknowledge()
            return True
        creation.last_error = None
        for shard, status in row.statuses.items():
            if status != InProgress(None):
                # Whoever reports progress has the timeline in remote storage.
                creation.durable.add(TenantShardId(row.tenant, shard.shard_number, shard.shard_count))
        missing = [shard for shard in row.shards if shard not in creation.durable]
        # Shard zero decides what its siblings are asked for.
        at_it = await self._ask(creation, row, missing[:1])
        if at_it == missing[:1] or not missing:
            at_it += await self._ask(creation, row, missing[1:])
        if len(at_it) == len(missing):
            creation.acknowledge()
        if len(creation.durable) < len(row.statuses):
            return False
        await imports.mark_created(self._db, *creation.key)
        return True

    async def _ask(
        self, creation: Creation, row: ImportRow, wanted: Sequence[TenantShardId]
    ) -> list[TenantShardId]:
        """Those of `wanted` whose pageserver has the timeline or is at it. Raises Refused."""
        before = await shards.issued(self._db, wanted)
        results: list[bool | None] = []
        refused: BaseException | None = None
        # All are awaited, also when one refuses: who is still at it could not be undone.
        for answer in await asyncio.gather(
            *(self._create(creation, row, shard, before.get(shard)) for shard in wanted),
            return_exceptions=True,
        ):
            if isinstance(answer, BaseException):
                refused = refused or answer
            else:
                results.append(answer)
        if refused is not None:
            raise refused
        after = await shards.issued(self._db, wanted)
        at_it = []
        for shard, created in zip(wanted, results, strict=True):
            if created is not None and before[shard] == after.get(shard):
                at_it.append(shard)
                if created:
                    creation.durable.add(shard)
        return at_it

    async def _create(
        self, creation: Creation, row: ImportRow, shard: TenantShardId, issued: shards.Issued | None
    ) -> bool | None:
        """True: durable. False: the pageserver is at it. None: not now. Raises Refused."""
        node = attached_node(self._state, shard, issued)
        if node is None:
            creation.last_error = f"shard {shard} is not attached"
            return None
        if creation.stopping.is_set():
            return None
        try:
            await self._client.create_timeline(node, shard, row.request)
        except PageserverError as e:
            if e.status == _IN_PROGRESS:
                return False
            if e.status in _REFUSED:
                raise Refused(e) from e
            creation.last_error = f"{node}: {e}"
            return None
        return True

    async def _undo(self, creation: Creation) -> bool:
        """Removes the timeline from every shard, then the record. False if that has to wait.

        Any of them may have it, whatever its pageserver has answered, and whether it was heard.
        """
        row = await imports.find(self._db, *creation.key)
        for shard in () if row is None else sorted(row.shards):
            issued = (await shards.issued(self._db, [shard])).get(shard)
            node = attached_node(self._state, shard, issued)
            if node is None or not await self._delete(node, shard, creation.key):
                creation.last_error = f"shard {shard} keeps a refused timeline for now"
                return False
        await imports.delete(self._db, *creation.key)
        return True

    async def _delete(self, node: Node, shard: TenantShardId, key: ImportKey) -> bool:
        for attempt in range(8):
            try:
                if await self._client.delete_timeline(node, shard, key[1]) == 404:
                    return True
            except PageserverError as e:
                log.info("Removing refused timeline %s of %s: %s", key[1], shard, e)
            await back_off(attempt)
        return False
