"""The tenant manifest: what a tenant shard's remote storage holds besides its timelines' indices."""

from __future__ import annotations

import functools
import logging
from typing import Any

import msgspec

from reattach.api import codec
from reattach.api.ids import TenantShardId
from reattach.api.remote_path import tenant_manifest_path, tenant_prefix
from reattach.pageserver.remote.index_choice import load_newest
from reattach.pageserver.remote.storage import ObjectNotFound, RemoteError, RemoteStorage, retry_forever
from reattach.runtime.failpoints import failpoints

log = logging.getLogger(__name__)

_VERSION = 2


class MalformedManifest(Exception):
    """A tenant manifest that cannot be read; what it says cannot be made up."""

    def __init__(self, path: str, reason: object) -> None:
        super().__init__(f"malformed tenant manifest {path}: {reason}")


class TenantManifest(msgspec.Struct, frozen=True):
    """`stripe_size` in pages. Timelines are never offloaded here, but others may have done it."""

    version: int
    stripe_size: int | None = None
    offloaded_timelines: list[dict[str, Any]] = []

    @classmethod
    def of(cls, stripe_size: int) -> TenantManifest:
        return cls(_VERSION, stripe_size)


async def load_manifest(
    storage: RemoteStorage, tenant: TenantShardId, generation: int
) -> TenantManifest | None:
    """The one to use in this generation, None if there is none. Raises MalformedManifest."""
    prefix = tenant_prefix(tenant)

    async def list_names() -> list[str]:
        found = await retry_forever("listing of tenant manifests", lambda: storage.list_children(prefix))
        return [each.path for each in found if each.name.startswith("tenant-manifest")]

    try:
        path, raw = await load_newest(
            generation,
            name_of=functools.partial(tenant_manifest_path, tenant),
            get=lambda path: retry_forever(f"download of {path}", lambda: storage.get(path)),
            list_names=list_names,
        )
    except ObjectNotFound:
        return None
    try:
        return codec.decode(raw, TenantManifest)
    except (codec.DecodeError, UnicodeDecodeError) as e:
        raise MalformedManifest(path, e) from e


async def upload_manifest_if_changed(
    storage: RemoteStorage,
    tenant: TenantShardId,
    generation: int,
    found: TenantManifest | None,
    stripe_size: int,
) -> None:
    """Returns when it is there: an attachment waits for its storage, however long that is away."""
    offloaded = found.offloaded_timelines if found is not None else []
    wanted = TenantManifest(_VERSION, stripe_size, offloaded)
    if found is not None and msgspec.structs.replace(found, version=_VERSION) == wanted:
        return

    async def upload() -> None:
        if await failpoints.hit("before-upload-manifest") is not None:
            raise RemoteError("failpoint before-upload-manifest")
        await failpoints.pausable("before-upload-manifest-pausable")
        await storage.put(tenant_manifest_path(tenant, generation), codec.encode(wanted))

    await retry_forever("upload of the tenant manifest", upload)
