"""What pageservers ask of the storage controller, below its `/upcall/v1/`."""

from __future__ import annotations

import msgspec

from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.import_status import ShardImportStatus
from reattach.api.location import LocationConfigMode
from reattach.api.numbers import Generation, NodeNumber, Port


class NodeRegisterRequest(msgspec.Struct, frozen=True):
    node_id: NodeNumber
    listen_pg_addr: str
    listen_pg_port: Port
    listen_http_addr: str
    listen_http_port: Port
    availability_zone_id: str
    listen_grpc_addr: str | None = None
    listen_grpc_port: Port | None = None
    listen_https_port: Port | None = None
    node_ip_addr: str | None = None


class ReAttachRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    node_id: NodeNumber
    register: NodeRegisterRequest | None = None
    empty_local_disk: bool | None = None


class ReAttachTenant(msgspec.Struct, frozen=True):
    id: TenantShardId
    gen: int | None
    mode: LocationConfigMode
    stripe_size: int


class ReAttachResponse(msgspec.Struct, frozen=True):
    tenants: list[ReAttachTenant]


class ValidateTenant(msgspec.Struct, frozen=True):
    id: TenantShardId
    gen: Generation


class ValidateRequest(msgspec.Struct, frozen=True):
    tenants: list[ValidateTenant]


class ValidateResult(msgspec.Struct, frozen=True):
    id: TenantShardId
    valid: bool


class ValidateResponse(msgspec.Struct, frozen=True):
    tenants: list[ValidateResult]


class GetImportStatusRequest(msgspec.Struct, frozen=True):
    """Body of `GET timeline_import_status`: yes, a GET with a body."""

    tenant_shard_id: TenantShardId
    timeline_id: TimelineId
    generation: Generation


class PutImportStatusRequest(msgspec.Struct, frozen=True):
    """Body of `POST timeline_import_status`."""

    tenant_shard_id: TenantShardId
    timeline_id: TimelineId
    status: ShardImportStatus
    generation: Generation


class ImportCompleteRequest(msgspec.Struct, frozen=True):
    """Body of the control plane's `PUT import_complete`. `error` is always present."""

    tenant_id: str
    timeline_id: str
    error: str | None
