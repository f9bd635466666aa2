"""What the types that read and write their own JSON look like, in JSON Schema's words."""

from __future__ import annotations

from reattach.api.controller import (
    TENANT_CONFIG_KEYS,
    PlacementPolicy,
    TenantConfigRequest,
    TenantCreateRequest,
    TimelineCreation,
)
from reattach.api.ids import ShardIndex, TenantId, TenantShardId, TimelineId
from reattach.api.import_status import ShardImportStatus
from reattach.api.key import Key
from reattach.api.location import ImportLocation
from reattach.api.lsn import Lsn
from reattach.api.numbers import MAX_GIVEN_GENERATION

Schema = dict[str, object]

_I64 = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
_U64 = {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}
_ID = "[0-9a-fA-F]{32}"
_ANYTHING: Schema = {}


def text(pattern: str) -> Schema:
    return {"type": "string", "pattern": f"^{pattern}$"}


def fields(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """An object; others than these fields are ignored."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
    }


def only(schema: Schema) -> Schema:
    """The object with these fields alone."""
    return {**schema, "additionalProperties": False}


TENANT_ID = text(_ID)
# Of as many shards as there are numbers below: one digit each covers what anybody writes.
TENANT_SHARD_ID = text(f"{_ID}(-0[0-3]0[4-9])?")
_CONFIG = dict.fromkeys(sorted(TENANT_CONFIG_KEYS), _ANYTHING)
_PROGRESS = fields({"jobs": _I64, "completed": _I64, "import_plan_hash": _U64, "job_soft_size_limit": _I64})
_IMPORT_LOCATION: Schema = {
    "oneOf": [
        only(fields({"LocalFs": fields({"path": {"type": "string"}})})),
        only(fields({"AwsS3": fields({name: {"type": "string"} for name in ("region", "bucket", "key")})})),
    ]
}
_POLICY: Schema = {
    "oneOf": [
        {"enum": ["Secondary", "Detached"]},
        only(fields({"Attached": _U64})),
    ]
}

SCHEMAS: dict[type, Schema] = {
    TenantId: TENANT_ID,
    TimelineId: text(_ID),
    TenantShardId: TENANT_SHARD_ID,
    ShardIndex: text("0[0-3]0[4-9]"),
    Lsn: text("[0-9A-F]{1,8}/[0-9A-F]{1,8}"),
    Key: text("[0-9a-fA-F]{36}"),
    PlacementPolicy: _POLICY,
    ImportLocation: _IMPORT_LOCATION,
    ShardImportStatus: {
        "oneOf": [
            {"const": "Done"},
            only(fields({"Error": {"type": "string"}})),
            only(fields({"InProgress": {"oneOf": [{"type": "null"}, only(fields({"V1": _PROGRESS}))]}})),
        ]
    },
    TenantCreateRequest: only(
        fields(
            {"new_tenant_id": TENANT_SHARD_ID},
            {
                "generation": {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_GIVEN_GENERATION},
                "shard_parameters": fields(
                    {
                        "count": {"type": "integer", "minimum": 0, "maximum": 255},
                        "stripe_size": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
                    }
                ),
                "placement_policy": {"oneOf": [{"type": "null"}, _POLICY]},
                **_CONFIG,
            },
        )
    ),
    TenantConfigRequest: fields({"tenant_id": TENANT_ID}, _CONFIG),
    TimelineCreation: fields(
        {"new_timeline_id": text(_ID)},
        {
            "ancestor_timeline_id": {"oneOf": [{"type": "null"}, text(_ID)]},
            "import_pgdata": {
                "oneOf": [
                    {"type": "null"},
                    fields({"location": _IMPORT_LOCATION, "idempotency_key": {"type": "string"}}),
                ]
            },
        },
    ),
}

PATH_PARTS: dict[str, Schema] = {
    "tenant_id": TENANT_ID,
    "tenant_shard_id": TENANT_SHARD_ID,
    "timeline_id": text(_ID),
    "node_id": _U64,
    "layer_name": {"type": "string", "minLength": 1},
    "rest": {"type": "string", "minLength": 1},
}
"""By name: what stands in braces in paths."""
