"""Which bucket contents an import has begun with, kept so that a resume notices if they are others now.

The plan's hash sees names and sizes. This sees the store's mark of every object's content.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import xxhash

from reattach.api import codec
from reattach.pageserver.import_pgdata.bucket_object import BucketObject

_DIFFERENCES_NAMED = 3


class _Manifest(msgspec.Struct):
    objects: list[BucketObject]


def write_manifest(sources: Sequence[BucketObject]) -> bytes:
    """JSON; the same sources, sorted by path, give the same bytes."""
    return codec.encode(_Manifest(list(sources)))


def manifest_digest(manifest: bytes) -> str:
    return f"xxh3-128:{xxhash.xxh3_128_hexdigest(manifest)}"


def recorded_of(recorded: bytes, listed: Iterable[BucketObject]) -> list[BucketObject]:
    """Those of the listed objects that the manifest has, whatever has become of them. Raises DecodeError."""
    paths = {source.path for source in codec.decode(recorded, _Manifest).objects}
    return [each for each in listed if each.path in paths]


def describe_changes(recorded: bytes | None, sources: Sequence[BucketObject]) -> str:
    """Says which objects changed since the recorded manifest, naming the first few."""
    if recorded is None:
        return "the record of the objects that it began with is gone"
    try:
        before = {source.path: source for source in codec.decode(recorded, _Manifest).objects}
    except codec.DecodeError as e:
        return f"the record of the objects that it began with cannot be read ({e})"
    now = {source.path: source for source in sources}
    paths = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
    if not paths:
        return "no object of the bucket changed"
    named = ", ".join(_change(path, before.get(path), now.get(path)) for path in paths[:_DIFFERENCES_NAMED])
    more = len(paths) - _DIFFERENCES_NAMED
    return f"{named} and {more} more objects" if more > 0 else named


def _change(path: str, before: BucketObject | None, now: BucketObject | None) -> str:
    if before is None:
        return f"{path} was added"
    if now is None:
        return f"{path} was removed"
    if before.size != now.size:
        return f"{path} had {before.size} bytes and has {now.size}"
    return f"{path} has other content ({before.version}, now {now.version})"
