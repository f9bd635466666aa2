"""Identifiers of tenants, timelines, shards and nodes, in their text forms."""

from __future__ import annotations

import re
import secrets
from functools import total_ordering
from typing import NewType, Self

NodeId = NewType("NodeId", int)

_HEX_ID = re.compile(r"[0-9a-fA-F]{32}")
_HEX_SHARD = re.compile(r"[0-9a-fA-F]{4}")


@total_ordering
class Id:
    """Sixteen bytes, written as 32 lower-case hex digits. Compares only with its own class."""

    __slots__ = ("id",)

    def __init__(self, x: str) -> None:
        if not _HEX_ID.fullmatch(x):
            raise ValueError(f"{type(self).__name__} takes 32 hex digits, not {x!r}")
        self.id = bytes.fromhex(x)

    @classmethod
    def generate(cls) -> Self:
        """A random id."""
        return cls(secrets.token_hex(16))

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The id whose 16 bytes are `raw`."""
        return cls(raw.hex())

    @classmethod
    def from_json(cls, value: object) -> Self:
        if not isinstance(value, str):
            raise ValueError(f"{cls.__name__} is a string, not {value!r}")
        return cls(value)

    def to_json(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return self.id.hex()

    def __repr__(self) -> str:
        return f'{type(self).__name__}("{self}")'

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Id) or type(self) is not type(other):
            return NotImplemented
        return self.id < other.id

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Id) or type(self) is not type(other):
            return NotImplemented
        return self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)


class TenantId(Id):
    """A tenant, whatever its shards."""

    __slots__ = ()


class TimelineId(Id):
    """A timeline of a tenant."""

    __slots__ = ()


@total_ordering
class ShardIndex:
    """Which shard of how many. Count 0 means unsharded, which is not the same as one shard of one.

    Text form: four hex digits `NNCC`, `0000` for unsharded.
    """

    __slots__ = ("shard_count", "shard_number")

    def __init__(self, shard_number: int, shard_count: int) -> None:
        if not 0 <= shard_number <= 255 or not 0 <= shard_count <= 255:
            raise ValueError(f"shard {shard_number} of {shard_count} does not fit one byte each")
        if shard_number >= max(shard_count, 1):
            raise ValueError(f"shard number {shard_number} is not below the shard count {shard_count}")
        self.shard_number = shard_number
        self.shard_count = shard_count

    @classmethod
    def parse(cls, text: str) -> ShardIndex:
        """Reads `NNCC`. Raises ValueError."""
        if not _HEX_SHARD.fullmatch(text):
            raise ValueError(f"a shard index is 4 hex digits, not {text!r}")
        return cls(int(text[:2], 16), int(text[2:], 16))

    @property
    def is_sharded(self) -> bool:
        return self.shard_count != 0

    @property
    def suffix(self) -> str:
        """What object paths append to the tenant id: `-NNCC`, or nothing when unsharded."""
        return f"-{self}" if self.is_sharded else ""

    @classmethod
    def from_json(cls, value: object) -> ShardIndex:
        if not isinstance(value, str):
            raise ValueError(f"a shard index is a string, not {value!r}")
        return cls.parse(value)

    def to_json(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{self.shard_number:02x}{self.shard_count:02x}"

    def __repr__(self) -> str:
        return f'ShardIndex("{self}")'

    def _tuple(self) -> tuple[int, int]:
        return (self.shard_number, self.shard_count)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, ShardIndex):
            return NotImplemented
        return self._tuple() < other._tuple()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ShardIndex):
            return NotImplemented
        return self._tuple() == other._tuple()

    def __hash__(self) -> int:
        return hash(self._tuple())


UNSHARDED = ShardIndex(0, 0)


@total_ordering
class TenantShardId:
    """A shard of a tenant. Text form: the tenant id, then `-NNCC` unless unsharded."""

    __slots__ = ("shard_count", "shard_number", "tenant_id")

    def __init__(self, tenant_id: TenantId, shard_number: int, shard_count: int) -> None:
        index = ShardIndex(shard_number, shard_count)
        self.tenant_id = tenant_id
        self.shard_number = index.shard_number
        self.shard_count = index.shard_count

    @classmethod
    def parse(cls, text: str) -> TenantShardId:
        """Reads `<tenant>` or `<tenant>-NNCC`. Raises ValueError."""
        if len(text) == 32:
            return cls(TenantId(text), 0, 0)
        if len(text) == 37:
            index = ShardIndex.parse(text[33:])
            return cls(TenantId(text[:32]), index.shard_number, index.shard_count)
        raise ValueError(f"a tenant shard id has 32 or 37 characters, not {len(text)}: {text!r}")

    @classmethod
    def unsharded(cls, tenant_id: TenantId) -> TenantShardId:
        return cls(tenant_id, 0, 0)

    @property
    def shard_index(self) -> ShardIndex:
        return ShardIndex(self.shard_number, self.shard_count)

    @classmethod
    def from_json(cls, value: object) -> TenantShardId:
        if not isinstance(value, str):
            raise ValueError(f"a tenant shard id is a string, not {value!r}")
        return cls.parse(value)

    def to_json(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{self.tenant_id}{self.shard_index.suffix}"

    def __repr__(self) -> str:
        return f'TenantShardId("{self}")'

    def _tuple(self) -> tuple[TenantId, int, int]:
        return (self.tenant_id, self.shard_number, self.shard_count)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, TenantShardId):
            return NotImplemented
        return self._tuple() < other._tuple()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TenantShardId):
            return NotImplemented
        return (
            self.shard_number == other.shard_number
            and self.shard_count == other.shard_count
            and self.tenant_id == other.tenant_id
        )

    def __hash__(self) -> int:
        return hash((self.tenant_id, self.shard_number))


class TenantTimelineId:
    """A timeline together with the tenant that holds it."""

    __slots__ = ("tenant_id", "timeline_id")

    def __init__(self, tenant_id: TenantId, timeline_id: TimelineId) -> None:
        self.tenant_id = tenant_id
        self.timeline_id = timeline_id

    @classmethod
    def from_json(cls, value: dict[str, str]) -> TenantTimelineId:
        return cls(TenantId(value["tenant_id"]), TimelineId(value["timeline_id"]))

    def __str__(self) -> str:
        return f"{self.tenant_id}/{self.timeline_id}"

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TenantTimelineId):
            return NotImplemented
        return (self.tenant_id, self.timeline_id) == (other.tenant_id, other.timeline_id)

    def __hash__(self) -> int:
        return hash((self.tenant_id, self.timeline_id))
