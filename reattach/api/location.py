"""Where a tenant shard is attached and how, and where an import's data directory lies."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from reattach.api import codec
from reattach.api.ids import NodeId, TenantShardId
from reattach.api.numbers import Byte, Generation, StripeSize


class LocationConfigMode(StrEnum):
    ATTACHED_SINGLE = "AttachedSingle"
    ATTACHED_MULTI = "AttachedMulti"
    ATTACHED_STALE = "AttachedStale"
    SECONDARY = "Secondary"
    DETACHED = "Detached"

    @property
    def is_attached(self) -> bool:
        return self.value.startswith("Attached")


class SecondaryConf(msgspec.Struct, frozen=True):
    warm: bool


class LocationConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `PUT /v1/tenant/:tenant_shard_id/location_config`."""

    mode: LocationConfigMode
    tenant_conf: dict[str, object]
    generation: Generation | None = None
    secondary_conf: SecondaryConf | None = None
    shard_number: Byte = 0
    shard_count: Byte = 0
    shard_stripe_size: StripeSize = 0


class TenantShardLocation(msgspec.Struct, frozen=True):
    shard_id: TenantShardId
    node_id: NodeId


class TenantLocationConfigResponse(msgspec.Struct, frozen=True):
    shards: list[TenantShardLocation]
    stripe_size: int | None = None


class AwsS3(msgspec.Struct, frozen=True):
    """A prefix `key` of an S3 bucket."""

    region: str
    bucket: str
    key: str


class LocalFs(msgspec.Struct, frozen=True):
    """A directory of this machine."""

    path: str


class ImportLocation:
    """An import bucket: `{"AwsS3": {...}}` or `{"LocalFs": {...}}`."""

    __slots__ = ("place",)

    def __init__(self, place: AwsS3 | LocalFs) -> None:
        self.place = place

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImportLocation) and self.place == other.place

    def __hash__(self) -> int:
        return hash(self.place)

    def __repr__(self) -> str:
        return f"ImportLocation({self.place!r})"

    @classmethod
    def from_json(cls, value: object) -> ImportLocation:
        if isinstance(value, dict) and len(value) == 1:
            ((tag, body),) = value.items()
            if tag == "AwsS3":
                return cls(codec.convert(body, AwsS3))
            if tag == "LocalFs":
                return cls(codec.convert(body, LocalFs))
        raise ValueError(f'an import location is {{"AwsS3": ...}} or {{"LocalFs": ...}}, not {value!r}')

    def to_json(self) -> object:
        return {type(self.place).__name__: codec.to_builtins(self.place)}


class ImportPgdata(msgspec.Struct, frozen=True):
    """The part of a timeline create request that asks for an import."""

    location: ImportLocation
    idempotency_key: str
