"""Deletions that wait until the storage controller confirms that we may carry them out. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Self

import msgspec

from reattach.api import codec
from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.remote_path import timeline_prefix

FLUSH_KEYS = 16384
"""A list that has so many objects is persisted at once."""

_VERSION = 1


class TenantDeletions(msgspec.Struct):
    """Object names by timeline. `generation`: that in which the tenant shard was attached."""

    timelines: dict[str, list[str]]
    generation: int


class DeletionList(msgspec.Struct, omit_defaults=True):
    """What was deleted in a while, with one generation per tenant shard. A file of the `deletion/` folder."""

    version: int
    sequence: int
    tenants: dict[str, TenantDeletions]
    size: int
    validated: bool = False

    @classmethod
    def empty(cls, sequence: int) -> Self:
        return cls(_VERSION, sequence, {}, 0)

    @classmethod
    def from_json_bytes(cls, raw: bytes) -> Self:
        """Raises codec.DecodeError."""
        return codec.decode(raw, cls)

    def to_json_bytes(self) -> bytes:
        return codec.encode(self)

    @property
    def file_name(self) -> str:
        return f"{self.sequence:016x}-{_VERSION:02x}.list"

    def push(self, tenant: TenantShardId, timeline: TimelineId, generation: int, names: list[str]) -> bool:
        """Adds objects. Returns False, adding nothing, if the list has the tenant in another generation."""
        deletions = self.tenants.setdefault(str(tenant), TenantDeletions({}, generation))
        if deletions.generation != generation:
            return False
        deletions.timelines.setdefault(str(timeline), []).extend(names)
        self.size += len(names)
        return True

    def paths(self) -> Iterator[str]:
        """The full paths of the objects."""
        for tenant, deletions in self.tenants.items():
            for timeline, names in deletions.timelines.items():
                prefix = timeline_prefix(TenantShardId.parse(tenant), TimelineId(timeline))
                yield from (f"{prefix}/{name}" for name in names)

    def generations(self) -> Iterator[tuple[TenantShardId, int]]:
        for tenant, deletions in self.tenants.items():
            yield TenantShardId.parse(tenant), deletions.generation

    def drop_invalid(self, valid: Mapping[TenantShardId, int]) -> dict[TenantShardId, list[str]]:
        """Keeps only the tenants whose generation is the one in `valid`. Returns the paths dropped."""
        dropped = {}
        for tenant in list(self.tenants):
            shard = TenantShardId.parse(tenant)
            if valid.get(shard) == self.tenants[tenant].generation:
                continue
            part = DeletionList(_VERSION, self.sequence, {tenant: self.tenants.pop(tenant)}, 0)
            dropped[shard] = list(part.paths())
            self.size -= len(dropped[shard])
        return dropped

    def relabel(self, attached: Mapping[TenantShardId, int]) -> None:
        """Takes over deletions of the generation right before the one attached now: nobody was between."""
        for tenant, deletions in self.tenants.items():
            generation = attached.get(TenantShardId.parse(tenant))
            if generation is not None and deletions.generation == generation - 1:
                deletions.generation = generation


class DeletionHeader(msgspec.Struct, frozen=True):
    """Lists up to `validated_sequence` may be executed without asking again."""

    version: int
    validated_sequence: int

    @classmethod
    def of(cls, validated_sequence: int) -> Self:
        return cls(_VERSION, validated_sequence)


HEADER_FILE = f"header-{_VERSION:02x}"


def newest_generations(
    seen: Iterator[tuple[TenantShardId, int]],
) -> dict[TenantShardId, int]:
    """Per tenant shard the highest generation."""
    newest: dict[TenantShardId, int] = {}
    for tenant, generation in seen:
        newest[tenant] = max(generation, newest.get(tenant, generation))
    return newest
