"""The life of an import at the storage controller."""

from __future__ import annotations

from test_runner.regress.storage_controller.conftest import MakeCloud


def progress(completed: int, jobs: int = 10, plan: int = 2**64 - 1, limit: int = 512) -> dict[str, object]:
    v1 = {"jobs": jobs, "completed": completed, "import_plan_hash": plan, "job_soft_size_limit": limit}
    return {"InProgress": {"V1": v1}}


def test_import_is_told_once_and_forgotten(make_cloud: MakeCloud) -> None:
    """I7: every shard done, the timeline active on each, the control plane told without an error."""
    cloud = make_cloud(nodes=2, runs_imports=True)
    tenant = cloud.create_tenant(shards=4)
    timeline = cloud.create_import(tenant)
    assert cloud.wait_told(timeline) is None
    for shard in cloud.shards(tenant):
        assert cloud.remote.timelines(shard)[timeline].imported
    assert cloud.told(timeline) == [None]
