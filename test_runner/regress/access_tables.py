"""Who may use which route, as the real system has it: written down here, not read from the code that decides.

Where the real one takes any good token, this one wants one that is good for what the route touches
(docs/deviations.md).
"""

from __future__ import annotations

from reattach.fixtures.auth_tokens import TokenScope as S

SHARD = "/v1/tenant/{tenant_shard_id}"
TIMELINE = SHARD + "/timeline/{timeline_id}"
LAYER = TIMELINE + "/layer/{layer_name}"

PAGESERVER_PUBLIC = {("GET", "/v1/status"), ("GET", "/metrics")}

PAGESERVER_MANAGEMENT = {
    ("PUT", "/v1/failpoints"),
    ("PUT", "/v1/deletion_queue/flush"),
    ("PUT", "/v1/disk_usage_eviction/run"),
    ("POST", "/v1/top_tenants"),
    ("POST", "/v1/tracing/event"),
    ("GET", "/v1/utilization"),
    ("GET", "/v1/tenant"),
    ("GET", "/v1/location_config"),
    ("GET", "/v1/location_config/{tenant_shard_id}"),
    ("GET", TIMELINE + "/getpage"),
    ("GET", TIMELINE + "/touchpage"),
    ("GET", TIMELINE + "/values"),
}

PAGESERVER_TENANT = {
    ("PUT", "/v1/tenant/config"),
    ("PATCH", "/v1/tenant/config"),
    ("GET", SHARD),
    ("DELETE", SHARD),
    ("GET", SHARD + "/config"),
    ("PUT", SHARD + "/location_config"),
    ("POST", SHARD + "/reset"),
    ("PUT", SHARD + "/break"),
    ("POST", SHARD + "/heatmap_upload"),
    ("POST", SHARD + "/wait_lsn"),
    ("GET", SHARD + "/secondary/status"),
    ("POST", SHARD + "/secondary/download"),
    ("GET", SHARD + "/timeline"),
    ("GET", SHARD + "/timeline_and_offloaded"),
    ("POST", SHARD + "/timeline"),
    ("GET", TIMELINE),
    ("DELETE", TIMELINE),
    ("PUT", TIMELINE + "/activate_post_import"),
    ("PUT", TIMELINE + "/checkpoint"),
    ("PUT", TIMELINE + "/do_gc"),
    ("GET", TIMELINE + "/layer"),
    ("GET", LAYER),
    ("DELETE", LAYER),
    ("POST", LAYER + "/scan_disposable_keys"),
    ("GET", TIMELINE + "/fullbackup"),
}

TENANT = "/v1/tenant/{tenant_id}"
CONTROL_TENANT = "/control/v1/tenant/{tenant_id}"
NODE = "/control/v1/node/{node_id}"

CONTROLLER_PUBLIC = {("GET", "/status"), ("GET", "/live"), ("GET", "/ready"), ("GET", "/metrics")}

CONTROLLER: dict[tuple[str, str], S] = {
    ("POST", "/upcall/v1/re-attach"): S.GENERATIONS_API,
    ("POST", "/upcall/v1/validate"): S.GENERATIONS_API,
    ("GET", "/upcall/v1/timeline_import_status"): S.GENERATIONS_API,
    ("POST", "/upcall/v1/timeline_import_status"): S.GENERATIONS_API,
    ("POST", "/v1/tenant"): S.PAGE_SERVER_API,
    ("PATCH", "/v1/tenant/config"): S.PAGE_SERVER_API,
    ("PUT", "/v1/tenant/config"): S.PAGE_SERVER_API,
    ("GET", TENANT + "/config"): S.PAGE_SERVER_API,
    ("DELETE", TENANT): S.PAGE_SERVER_API,
    ("PUT", "/v1/tenant/{tenant_shard_id}/location_config"): S.PAGE_SERVER_API,
    ("POST", TENANT + "/timeline"): S.PAGE_SERVER_API,
    ("DELETE", TENANT + "/timeline/{timeline_id}"): S.PAGE_SERVER_API,
    ("GET", TENANT): S.PAGE_SERVER_API,
    ("GET", TENANT + "/{rest:path}"): S.PAGE_SERVER_API,
    ("GET", "/control/v1/tenant"): S.ADMIN,
    ("GET", CONTROL_TENANT): S.SCRUBBER,
    ("PUT", CONTROL_TENANT + "/policy"): S.ADMIN,
    ("PUT", CONTROL_TENANT + "/shard_split"): S.ADMIN,
    ("PUT", "/control/v1/tenant/{tenant_shard_id}/migrate"): S.ADMIN,
    ("GET", CONTROL_TENANT + "/timeline/{timeline_id}"): S.SCRUBBER,
    ("GET", CONTROL_TENANT + "/timeline/{timeline_id}/import"): S.ADMIN,
    ("GET", CONTROL_TENANT + "/import"): S.ADMIN,
    ("GET", "/control/v1/import"): S.ADMIN,
    ("GET", "/control/v1/leader"): S.ADMIN,
    ("POST", "/control/v1/node"): S.INFRA,
    ("GET", "/control/v1/node"): S.INFRA,
    ("GET", NODE): S.INFRA,
    ("GET", NODE + "/shards"): S.ADMIN,
    ("PUT", NODE + "/config"): S.ADMIN,
    ("DELETE", NODE): S.ADMIN,
    ("PUT", NODE + "/delete"): S.ADMIN,
    ("DELETE", NODE + "/delete"): S.INFRA,
    ("PUT", NODE + "/drain"): S.INFRA,
    ("DELETE", NODE + "/drain"): S.INFRA,
    ("PUT", NODE + "/fill"): S.INFRA,
    ("DELETE", NODE + "/fill"): S.INFRA,
    ("GET", "/debug/v1/tenant"): S.ADMIN,
    ("GET", "/debug/v1/tenant/{tenant_id}/locate"): S.ADMIN,
    ("POST", "/debug/v1/tenant/{tenant_id}/drop"): S.PAGE_SERVER_API,
    ("POST", "/debug/v1/node/{node_id}/drop"): S.ADMIN,
    ("POST", "/debug/v1/attach-hook"): S.ADMIN,
    ("POST", "/debug/v1/inspect"): S.ADMIN,
    ("POST", "/debug/v1/reconcile_all"): S.ADMIN,
    ("POST", "/debug/v1/consistency_check"): S.ADMIN,
    ("PUT", "/debug/v1/failpoints"): S.ADMIN,
    ("GET", "/debug/v1/scheduler"): S.ADMIN,
}

_PARTS = {
    "{timeline_id}": "5" * 32,
    "{layer_name}": "x",
    "{node_id}": "99",
    "{rest:path}": "timeline",
}


def filled(path: str, tenant: str) -> str:
    """The path with ids in it, of the tenant where it names one."""
    for part, value in (_PARTS | {"{tenant_id}": tenant, "{tenant_shard_id}": tenant}).items():
        path = path.replace(part, value)
    return path
