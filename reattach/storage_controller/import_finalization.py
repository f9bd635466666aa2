"""The end of an import: activate the timeline everywhere, tell the control plane, forget the import."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from reattach.api.controller_points import Point
from reattach.api.ids import TenantShardId
from reattach.api.upcall import ImportCompleteRequest
from reattach.runtime.failpoints import failpoints
from reattach.runtime.http_client import TransportError
from reattach.storage_controller.attachment import attached_node
from reattach.storage_controller.control_plane import ControlPlane
from reattach.storage_controller.core import import_state
from reattach.storage_controller.core.model import Node
from reattach.storage_controller.db import imports, shards
from reattach.storage_controller.db.database import Database, DatabaseUnavailable, until_available
from reattach.storage_controller.db.imports import ImportKey, ImportRow
from reattach.storage_controller.metrics import Metrics
from reattach.storage_controller.pageserver_client import PageserverClient, PageserverError
from reattach.storage_controller.state import State

log = logging.getLogger(__name__)

NO_CONTROL_PLANE = "no --control-plane-url is configured, so nobody can be told of the import"

_NOTIFY_RETRY = 1.0
_FIRST_ROUND_DELAY = 0.02
_MAX_ROUND_DELAY = 0.25


class Finalizer:
    """Runs to the end whatever fails meanwhile. May be cancelled anywhere; a new run then starts over."""

    def __init__(
        self,
        db: Database,
        state: State,
        client: PageserverClient,
        control_plane: ControlPlane | None,
        metrics: Metrics,
    ) -> None:
        self._db = db
        self._state = state
        self._client = client
        self._control_plane = control_plane
        self._metrics = metrics
        self.waiting_for: dict[ImportKey, str] = {}

    async def run(self, key: ImportKey) -> None:
        """Returns at once if there is no such import or one of its shards is still at work."""
        try:
            row = await until_available(lambda: imports.find(self._db, *key))
            if row is None or row.finished or not row.is_complete:
                return
            log.info("Finalizing timeline import %s/%s", *key)
            await failpoints.pausable(Point.IMPORT_PRE_NOTIFICATION)
            error = import_state.error_text(row.statuses)
            if error is None:
                error = await self._activate(row)
            await failpoints.hit(Point.IMPORT_POST_ACTIVATION)
            await self._notify(key, error)
            self.waiting_for.pop(key, None)
            await until_available(lambda: imports.finish(self._db, *key, error))
            if error is None:
                log.info("Timeline import completed successfully: %s/%s", *key)
            else:
                log.warning("Timeline import completed with shard errors: %s/%s: %s", *key, error)
        finally:
            self.waiting_for.pop(key, None)

    async def _activate(self, row: ImportRow) -> str | None:
        """Returns when the timeline is active on every shard; or why it never will be."""
        remaining = set(row.shards)
        delay, reported = _FIRST_ROUND_DELAY, -1
        while True:
            strangers = [s for s in self._state.shards_of(row.tenant) if s.id.shard_index not in row.statuses]
            if strangers:
                index = strangers[0].id.shard_index
                log.error(
                    "Import finalize failed with permanent error: unexpected shard %s of %s/%s",
                    index,
                    *row.key,
                )
                return f"Mismatched shard detected during import finalize: {index}"
            activated = await self._activate_round(row, remaining)
            remaining -= activated
            if not remaining:
                log.info("Post import timeline activation complete: %s/%s", *row.key)
                return None
            if activated:
                delay = _FIRST_ROUND_DELAY
            if len(remaining) != reported:
                reported = len(remaining)
                log.info(
                    "Failed to activate timeline on %d shards post import. Will retry: %s/%s",
                    reported,
                    *row.key,
                )
            self.waiting_for[row.key] = f"activation on {', '.join(str(s) for s in sorted(remaining))}"
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, _MAX_ROUND_DELAY)

    async def _activate_round(
        self, row: ImportRow, remaining: Collection[TenantShardId]
    ) -> set[TenantShardId]:
        """Those of `remaining` that are active now, in a generation that was current before and after."""
        try:
            before = await shards.issued(self._db, sorted(remaining))
            asked = {
                shard: node
                for shard in sorted(remaining)
                if (node := attached_node(self._state, shard, before.get(shard))) is not None
            }
            answers = await asyncio.gather(*(self._activate_shard(s, n, row) for s, n in asked.items()))
            done = [shard for shard, active in zip(asked, answers, strict=True) if active]
            after = await shards.issued(self._db, done)
        except DatabaseUnavailable as e:
            log.info("Activation of import %s/%s waits for the database: %s", *row.key, e.msg)
            return set()
        # A location that has lost its generation meanwhile may have activated what nobody will ever read.
        return {shard for shard in done if before[shard] == after.get(shard)}

    async def _activate_shard(self, shard: TenantShardId, node: Node, row: ImportRow) -> bool:
        try:
            await self._client.activate_post_import(node, shard, row.timeline)
        except PageserverError as e:
            log.info("Call to node %s (%s) management API failed, will retry: %s", node.id, shard, e)
            return False
        return True

    async def _notify(self, key: ImportKey, error: str | None) -> None:
        """Returns when the control plane has taken it."""
        if self._control_plane is None:
            self.waiting_for[key] = NO_CONTROL_PLANE
            log.warning("Import %s/%s is complete but waits: %s", *key, NO_CONTROL_PLANE)
            await asyncio.Event().wait()
            return
        log.info("Notifying cplane of import completion: %s/%s import_failed=%s", *key, error is not None)
        body = ImportCompleteRequest(str(key[0]), str(key[1]), error)
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = await self._control_plane.import_complete(body)
            except TransportError as e:
                reason = f"error: {e}"
            else:
                if answer.is_success:
                    self._metrics.import_notifications.labels("taken").inc()
                    return
                reason = f"status code {answer.status}"
            self._metrics.import_notifications.labels("failed").inc()
            log.warning("Import complete notification failed with %s, attempt %d", reason, attempt)
            self.waiting_for[key] = f"the control plane: {reason}"
            await asyncio.sleep(_NOTIFY_RETRY)
