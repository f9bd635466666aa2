"""What everything in this process shares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reattach.api.ids import NodeId, TenantShardId, TimelineId
from reattach.pageserver.config.pageserver_toml import PageServerConfig
from reattach.pageserver.metrics import Metrics
from reattach.pageserver.remote.deletion_queue import DeletionQueue
from reattach.pageserver.remote.storage import RemoteStorage
from reattach.pageserver.upcalls import ControllerClient


@dataclass(frozen=True, slots=True)
class Context:
    """One per process."""

    node_id: NodeId
    config: PageServerConfig
    storage: RemoteStorage
    controller: ControllerClient
    deletions: DeletionQueue
    metrics: Metrics

    @property
    def sync(self) -> bool:
        """Whether small local files must survive a power failure."""
        return not self.config.no_sync

    @property
    def tenants_directory(self) -> Path:
        return self.config.workdir / "tenants"

    def tenant_directory(self, tenant: TenantShardId) -> Path:
        return self.tenants_directory / str(tenant)

    def timeline_directory(self, tenant: TenantShardId, timeline: TimelineId) -> Path:
        return self.tenant_directory(tenant) / "timelines" / str(timeline)
