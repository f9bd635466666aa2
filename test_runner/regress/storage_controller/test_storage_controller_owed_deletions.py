"""A tenant is deleted while a pageserver is silent, which may go on writing for it."""

from __future__ import annotations

import pytest

from test_runner.regress.storage_controller.cloud import Cloud
from test_runner.regress.storage_controller.conftest import MakeCloud
from test_runner.regress.storage_controller.fake_pageserver import Fault

ALWAYS = 1_000_000


@pytest.fixture
def cloud(make_cloud: MakeCloud) -> Cloud:
    """The second of two nodes does not answer heartbeats, and is offline."""
    cloud = make_cloud(nodes=2)
    cloud.node(2).inject(Fault("GET /v1/utilization", 503, times=ALWAYS))
    cloud.wait(
        lambda: cloud.api.ok("GET", "/control/v1/node/2")["availability"] == "Offline", "node 2 to be offline"
    )
    return cloud


def delete(cloud: Cloud) -> str:
    """A tenant that was deleted by now."""
    tenant = cloud.create_tenant()
    cloud.api.ok("DELETE", f"/v1/tenant/{tenant}")
    assert owed(cloud) == [(tenant, 2)]
    assert deletions(cloud, 2) == []
    return tenant


def owed(cloud: Cloud) -> list[tuple[str, int]]:
    return cloud.query("SELECT tenant_id, node_id FROM owed_deletions")


def deletions(cloud: Cloud, node: int) -> list[str]:
    return [path for _, path in cloud.node(node).calls("DELETE /v1/tenant/")]


@pytest.mark.parametrize("controller", ["the_same", "restarted"])
def test_once_more_when_it_is_back(cloud: Cloud, controller: str) -> None:
    """I9: nobody lists a deleted tenant again, so what the node wrote meanwhile would stay for ever."""
    tenant = delete(cloud)
    if controller == "restarted":
        cloud.restart_controller()
    cloud.node(2).mend()
    cloud.node(2).inject(Fault("DELETE /v1/tenant", 409))
    cloud.wait(lambda: owed(cloud) == [], "the deletion to be done")
    assert deletions(cloud, 2) == [f"/v1/tenant/{tenant}"] * 2


def test_not_if_every_node_was_there(make_cloud: MakeCloud) -> None:
    cloud = make_cloud(nodes=2)
    tenant = cloud.create_tenant()
    cloud.api.ok("DELETE", f"/v1/tenant/{tenant}")
    assert owed(cloud) == []
    assert len(deletions(cloud, 1) + deletions(cloud, 2)) == 1


def test_a_tenant_that_was_created_again_is_not_deleted(cloud: Cloud) -> None:
    """I8"""
    tenant = delete(cloud)
    cloud.create_tenant(tenant=tenant)
    cloud.node(2).mend()
    cloud.wait(lambda: owed(cloud) == [], "the deletion to be settled")
    assert deletions(cloud, 2) == []


def test_what_a_dropped_node_owes_another_does(cloud: Cloud) -> None:
    """I9"""
    tenant = delete(cloud)
    before = len(deletions(cloud, 1))
    cloud.api.ok("POST", "/debug/v1/node/2/drop")
    cloud.wait(lambda: owed(cloud) == [], "the deletion to be done")
    assert deletions(cloud, 1)[before:] == [f"/v1/tenant/{tenant}"]
