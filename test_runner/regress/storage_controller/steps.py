"""What tests of imports do again and again."""

from __future__ import annotations

from typing import Any

from test_runner.regress.storage_controller.cloud import Cloud

NOTHING_YET = {"InProgress": None}


def progress(completed: int, jobs: int = 10, plan: int = 2**64 - 1, limit: int = 512) -> dict[str, Any]:
    v1 = {"jobs": jobs, "completed": completed, "import_plan_hash": plan, "job_soft_size_limit": limit}
    return {"InProgress": {"V1": v1}}


def is_importing(cloud: Cloud, tenant: str) -> bool:
    shards = cloud.api.ok("GET", f"/control/v1/tenant/{tenant}")["shards"]
    dumped = [s for s in cloud.api.ok("GET", "/debug/v1/tenant") if s["tenant_shard_id"].startswith(tenant)]
    flags = {s["is_importing"] for s in shards} | {s["importing"] == "Importing" for s in dumped}
    assert len(flags) == 1
    return bool(flags.pop())


def migrate(cloud: Cloud, shard: str, node: int, **config: Any) -> None:
    body = {"node_id": node, "migration_config": {"prewarm": False, "override_scheduler": True, **config}}
    cloud.api.ok("PUT", f"/control/v1/tenant/{shard}/migrate", body)


def describe_import(cloud: Cloud, tenant: str, timeline: str) -> dict[str, Any]:
    info: dict[str, Any] = cloud.api.ok("GET", f"/control/v1/tenant/{tenant}/timeline/{timeline}/import")
    return info
