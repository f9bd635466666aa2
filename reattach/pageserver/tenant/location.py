"""Where a tenant shard stands on this node, and the file `config-v1` that remembers it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reattach.api.ids import ShardIndex
from reattach.api.location import LocationConfig, LocationConfigMode, SecondaryConf
from reattach.api.shard import DEFAULT_STRIPE_SIZE, ShardIdentity
from reattach.pageserver.files import write_atomically
from reattach.pageserver.toml_text import table
from reattach.runtime.errors import BadRequest

FILE = "config-v1"

_HEADER = """\
# This file contains a specific per-tenant's config.
#  It is read in case of pageserver restart.
"""

_SHARD_LAYOUT = 1


class BadLocationFile(Exception):
    """The file does not say where the tenant shard stands."""


@dataclass(frozen=True, slots=True)
class LocationConf:
    """`generation` is set exactly if the mode is an attached one; `mode` is never Detached."""

    mode: LocationConfigMode
    generation: int | None
    shard: ShardIdentity
    tenant_conf: dict[str, Any] = field(default_factory=dict)
    warm: bool = True

    @property
    def is_attached(self) -> bool:
        return self.mode.is_attached

    @property
    def attached_generation(self) -> int:
        """Raises ValueError if not attached."""
        if self.generation is None:
            raise ValueError("only attached locations have a generation")
        return self.generation

    def attached_in(self, mode: LocationConfigMode, generation: int) -> LocationConf:
        return replace(self, mode=mode, generation=generation)

    def as_secondary(self) -> LocationConf:
        return replace(self, mode=LocationConfigMode.SECONDARY, generation=None, warm=True)

    @classmethod
    def from_request(cls, request: LocationConfig, index: ShardIndex) -> LocationConf:
        """Checks a request for a mode other than Detached. Raises BadRequest."""
        if request.mode.is_attached and request.generation is None:
            raise BadRequest("Generation must be set when attaching")
        if not request.mode.is_attached and request.generation is not None:
            raise BadRequest("Generation must not be set for a secondary location")
        if request.generation is not None and not 0 <= request.generation <= 0xFFFFFFFF:
            raise BadRequest(f"Generation {request.generation} is not a 32-bit number")
        warm = request.secondary_conf.warm if request.secondary_conf is not None else True
        tenant_conf = {key: value for key, value in request.tenant_conf.items() if value is not None}
        return cls(request.mode, request.generation, _requested_shard(request, index), tenant_conf, warm)

    def to_api(self) -> LocationConfig:
        return LocationConfig(
            mode=self.mode,
            generation=self.generation,
            secondary_conf=None if self.is_attached else SecondaryConf(self.warm),
            shard_number=self.shard.number,
            shard_count=self.shard.count,
            shard_stripe_size=self.shard.stripe_size,
            tenant_conf=self.tenant_conf,
        )

    def to_toml(self) -> str:
        if self.is_attached:
            name = self.mode.value.removeprefix("Attached")
            mode = table("mode.Attached", {"generation": self.generation, "attach_mode": name})
        else:
            mode = table("mode.Secondary", {"warm": self.warm})
        shard = {
            "number": self.shard.number,
            "count": self.shard.count,
            "stripe_size": self.shard.stripe_size,
            "layout": _SHARD_LAYOUT,
        }
        return "\n".join([_HEADER, mode, table("shard", shard), table("tenant_conf", self.tenant_conf)])

    @classmethod
    def from_toml(cls, text: str) -> LocationConf:
        """Raises BadLocationFile."""
        try:
            found = tomllib.loads(text)
            shard = ShardIdentity(
                int(found["shard"]["number"]),
                int(found["shard"]["count"]),
                int(found["shard"]["stripe_size"]),
            )
            tenant_conf = dict(found.get("tenant_conf", {}))
            match found["mode"]:
                case {"Attached": {"generation": int(generation), "attach_mode": str(name)}}:
                    return cls(LocationConfigMode(f"Attached{name}"), generation, shard, tenant_conf)
                case {"Secondary": {"warm": bool(warm)}}:
                    return cls(LocationConfigMode.SECONDARY, None, shard, tenant_conf, warm)
        except (KeyError, TypeError, ValueError) as e:
            raise BadLocationFile(f"malformed {FILE}: {e!r}") from e
        raise BadLocationFile(f"malformed {FILE}: unknown mode {found['mode']!r}")


def _requested_shard(request: LocationConfig, index: ShardIndex) -> ShardIdentity:
    if (request.shard_number, request.shard_count) != (index.shard_number, index.shard_count):
        wanted = f"shard {request.shard_number} of {request.shard_count}"
        raise BadRequest(f"the body speaks of {wanted}, the path of shard {index}")
    if request.shard_count and request.shard_stripe_size <= 0:
        raise BadRequest("Invalid stripe size")
    try:
        return ShardIdentity(
            index.shard_number, index.shard_count, request.shard_stripe_size or DEFAULT_STRIPE_SIZE
        )
    except ValueError as e:
        raise BadRequest(str(e)) from e


def write_location(tenant_directory: Path, conf: LocationConf, *, sync: bool) -> None:
    """Raises OSError."""
    write_atomically(tenant_directory / FILE, conf.to_toml().encode(), sync=sync)


def read_location(tenant_directory: Path) -> LocationConf:
    """Raises BadLocationFile and OSError."""
    try:
        return LocationConf.from_toml((tenant_directory / FILE).read_text(encoding="utf-8"))
    except UnicodeDecodeError as e:
        raise BadLocationFile(f"malformed {FILE}: {e}") from e
