"""Finding out what remote storage and the local disk hold of a timeline."""

from __future__ import annotations

import functools
import logging

from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.location import LocationConfigMode
from reattach.api.remote_path import index_path, timeline_prefix
from reattach.api.shard import ShardIdentity
from reattach.pageserver.blocking import run_blocking
from reattach.pageserver.context import Context
from reattach.pageserver.layers.index_part import IndexPart, IndexPartError
from reattach.pageserver.remote.index_choice import load_newest
from reattach.pageserver.remote.storage import (
    RemoteRefused,
    RemoteStorage,
    retry_forever,
    retry_unless_refused,
)
from reattach.pageserver.remote.timeline_client import TimelineClient
from reattach.pageserver.remote.timeline_objects import INDEX_NAME
from reattach.pageserver.timeline.local_files import tidy
from reattach.pageserver.timeline.timeline import Timeline

log = logging.getLogger(__name__)

_REFUSALS = 5


class UnusableIndex(Exception):
    """The index is well-formed and describes a timeline that cannot be."""


class UnreadableIndex(Exception):
    """The object at `path` is no index."""

    def __init__(self, path: str, reason: object) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path


async def load_index(
    storage: RemoteStorage, tenant: TenantShardId, timeline: TimelineId, generation: int
) -> tuple[str, IndexPart]:
    """The index to use in this generation, with its path. Raises ObjectNotFound and UnreadableIndex."""
    prefix = timeline_prefix(tenant, timeline)

    async def list_names() -> list[str]:
        after = f"{prefix}/{INDEX_NAME}"
        # `after` leaves out an index without generation, which the listing would give as equal.
        found = await retry_forever(
            "listing of indices", lambda: storage.list_objects(prefix, after=after[:-1])
        )
        return [each.path for each in found if each.path.startswith(after)]

    async def get(name: str) -> bytes:
        try:
            return await retry_unless_refused(f"download of {name}", _REFUSALS, lambda: storage.get(name))
        except RemoteRefused as e:
            raise UnreadableIndex(name, e) from e

    path, raw = await load_newest(
        generation,
        name_of=functools.partial(index_path, tenant, timeline),
        get=get,
        list_names=list_names,
    )
    log.info("loaded %s", path)
    try:
        return path, IndexPart.from_json_bytes(raw)
    except IndexPartError as e:
        raise UnreadableIndex(path, e) from e


def check_index(index: IndexPart) -> None:
    """Raises UnusableIndex."""
    if index.is_import_in_progress:
        return
    if not index.disk_consistent_lsn.is_valid:
        raise UnusableIndex("Timeline has no disk_consistent_lsn although no import is in progress")
    if index.metadata.ancestor_timeline is None and not index.layers:
        raise UnusableIndex("Timeline has no ancestor and no layer files")


def make_client(
    context: Context,
    tenant: TenantShardId,
    timeline: TimelineId,
    generation: int,
    index: IndexPart,
    mode: LocationConfigMode,
) -> TimelineClient:
    return TimelineClient(
        context.storage, context.deletions, context.metrics, tenant, timeline, generation, index, mode
    )


async def load_timeline(
    context: Context,
    tenant: TenantShardId,
    timeline_id: TimelineId,
    shard: ShardIdentity,
    generation: int,
    index: IndexPart,
    mode: LocationConfigMode,
) -> Timeline:
    """A timeline as the index describes it, using what is on the disk. Layers newer than its end are dropped.

    Raises UnusableIndex, UnknownFiles and OSError.
    """
    check_index(index)
    client = make_client(context, tenant, timeline_id, generation, index, mode)
    future = [name for name in index.layers if name.lsn > index.disk_consistent_lsn]
    if future:
        log.info("dropping %d layers that are newer than %s", len(future), index.disk_consistent_lsn)
        client.schedule_unlink(future)
    directory = context.timeline_directory(tenant, timeline_id)
    resident = await run_blocking(tidy, directory, client.index.layers)
    return Timeline(
        tenant_shard_id=tenant,
        timeline_id=timeline_id,
        shard=shard,
        generation=generation,
        directory=directory,
        client=client,
        metrics=context.metrics,
        resident=resident,
    )
