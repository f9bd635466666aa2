"""Commands of the libpq port."""

from __future__ import annotations

from dataclasses import dataclass

from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.lsn import Lsn


class BadCommand(Exception):
    """A command that is not known or has wrong parameters."""


@dataclass(frozen=True, slots=True)
class FullBackup:
    """`fullbackup <tenant>[-<shard>] <timeline> [<lsn> [<prev_lsn>]]`; without LSN, at the timeline's end."""

    tenant_shard_id: TenantShardId
    timeline_id: TimelineId
    lsn: Lsn | None


@dataclass(frozen=True, slots=True)
class Set:
    """`set ...`, which clients send when they connect; it has no effect."""


def parse_command(query: str) -> FullBackup | Set | None:
    """Reads the text of a query; None if it is empty. Raises BadCommand."""
    words = query.strip().removesuffix(";").split()
    if not words:
        return None
    name, parameters = words[0].lower(), words[1:]
    if name == "set":
        return Set()
    if name != "fullbackup":
        raise BadCommand(f"unsupported command: {words[0]}")
    if not 2 <= len(parameters) <= 4:
        raise BadCommand(
            f"fullbackup takes a tenant, a timeline and at most two LSNs, not {len(parameters)} words"
        )
    try:
        lsns = [Lsn(text) for text in parameters[2:]]
        return FullBackup(
            TenantShardId.parse(parameters[0]), TimelineId(parameters[1]), lsns[0] if lsns else None
        )
    except ValueError as e:
        raise BadCommand(str(e)) from e
