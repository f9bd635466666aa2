"""What becomes of the local tenant shards when the process starts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reattach.api.ids import TenantShardId
from reattach.api.location import LocationConfigMode
from reattach.api.shard import ShardIdentity
from reattach.api.upcall import ReAttachTenant
from reattach.pageserver.files import TEMP_SUFFIX, remove_tree
from reattach.pageserver.tenant.location import BadLocationFile, LocationConf, read_location

log = logging.getLogger(__name__)


@dataclass(slots=True)
class RestartPlan:
    """Which tenant shards to start, and how; which to remove from the disk, and how they stood."""

    start: dict[TenantShardId, LocationConf] = field(default_factory=dict)
    remove: dict[TenantShardId, LocationConf | None] = field(default_factory=dict)


def scan_tenants(directory: Path) -> dict[TenantShardId, LocationConf | None]:
    """The tenant shards on the disk; None for one whose configuration cannot be read. Raises OSError.

    Removes what an earlier process had begun to remove.
    """
    found: dict[TenantShardId, LocationConf | None] = {}
    for path in sorted(directory.iterdir()):
        if path.name.endswith(TEMP_SUFFIX):
            try:
                remove_tree(path)
            except OSError as e:
                log.error("what is left of a removed tenant stays: %s", e)
            continue
        try:
            shard_id = TenantShardId.parse(path.name)
        except ValueError:
            log.error("%s is no tenant directory, leaving it alone", path)
            continue
        try:
            found[shard_id] = read_location(path)
        except (BadLocationFile, OSError) as e:
            log.error("configuration of tenant %s cannot be read: %s", shard_id, e)
            found[shard_id] = None
    return found


def plan_restart(
    local: Mapping[TenantShardId, LocationConf | None], wanted: Iterable[ReAttachTenant]
) -> RestartPlan:
    """Brings the disk and the controller's answer together. Pure.

    Tenant shards that are not on the disk are left out: the controller will send their configuration.
    """
    plan = RestartPlan()
    answers = {each.id: each for each in wanted}
    for shard_id, conf in local.items():
        answer = answers.get(shard_id)
        started = None if answer is None else _conf_after_restart(conf, answer)
        if started is None:
            plan.remove[shard_id] = conf
        else:
            plan.start[shard_id] = started
    return plan


def plan_emergency_restart(local: Mapping[TenantShardId, LocationConf | None]) -> RestartPlan:
    """Everything as it was, without asking the controller."""
    return RestartPlan({id_: conf for id_, conf in local.items() if conf is not None})


def _conf_after_restart(conf: LocationConf | None, answer: ReAttachTenant) -> LocationConf | None:
    """None if the tenant shard does not belong here any more."""
    if answer.mode is LocationConfigMode.DETACHED or (answer.mode.is_attached and answer.gen is None):
        return None
    if conf is None:
        index = answer.id.shard_index
        shard = ShardIdentity(index.shard_number, index.shard_count, answer.stripe_size)
        conf = LocationConf(LocationConfigMode.SECONDARY, None, shard)
    if answer.gen is None or not answer.mode.is_attached:
        return conf.as_secondary()
    if conf.generation is not None and answer.gen < conf.generation:
        log.error(
            "Control plane gave decreasing generation (%08x) in re-attach response for tenant %s that is "
            "attached in generation %08x, demoting to secondary",
            answer.gen,
            answer.id,
            conf.generation,
        )
        return conf.as_secondary()
    return conf.attached_in(answer.mode, answer.gen)
