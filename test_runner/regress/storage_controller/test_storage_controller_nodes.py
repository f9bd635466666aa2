"""Pageservers come, go and come back."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from test_runner.regress.storage_controller.cloud import Cloud
from test_runner.regress.storage_controller.conftest import MakeCloud
from test_runner.regress.storage_controller.fake_pageserver import FakePageserver, Fault


def node_status(cloud: Cloud, node: int) -> dict[str, Any]:
    status: dict[str, Any] = cloud.api.ok("GET", f"/control/v1/node/{node}")
    return status


def wait_offline(cloud: Cloud, node: int) -> None:
    cloud.wait(lambda: node_status(cloud, node)["availability"] == "Offline", f"node {node} to be offline")


def test_register(cloud: Cloud) -> None:
    body = cloud.node(1).register_body()
    assert cloud.api.call("POST", "/control/v1/node", body) == (200, None)
    assert cloud.api.call("POST", "/control/v1/node", {**body, "listen_pg_port": 99}) == (
        409,
        {"msg": "Conflict: Node is already registered with different address"},
    )
    assert cloud.api.call("POST", "/control/v1/node", {**body, "listen_https_port": 4})[0] == 200
    status = node_status(cloud, 1)
    assert status["listen_https_port"] == 4
    assert (status["availability"], status["scheduling"]) == ("Active", "Active")
    assert cloud.api.ok("GET", "/control/v1/node") == [status]
    nowhere = {**body, "node_id": 7, "listen_http_addr": "no-such-host.invalid"}
    assert cloud.api.call("POST", "/control/v1/node", nowhere)[0] == 503
    assert cloud.api.call("GET", "/control/v1/node/7") == (404, {"msg": "NotFound: Node 7 not registered"})
    cloud.execute(
        "INSERT INTO nodes SELECT 8, scheduling_policy, 'x', 1, 'x', 1, 'az', 1, 'deleted' FROM nodes"
    )
    assert cloud.api.call("POST", "/control/v1/node", {**body, "node_id": 8})[0] == 409
    assert cloud.api.call("POST", "/upcall/v1/re-attach", {"node_id": 8})[0] == 500


def test_re_attach_issues_new_generations(make_cloud: MakeCloud) -> None:
    """Attached shards get the next generation, durable before it is told; secondaries get none."""
    cloud = make_cloud(nodes=2)
    tenant = cloud.create_tenant(policy={"Attached": 1})
    home = cloud.issued(tenant)[1]
    assert home is not None
    for node in cloud.nodes:
        answer = cloud.api.ok("POST", "/upcall/v1/re-attach", {"node_id": node.id})["tenants"]
        attached = node.id == home
        mode = "AttachedSingle" if attached else "Secondary"
        generation = 2 if attached else None
        assert answer == [{"id": tenant, "gen": generation, "mode": mode, "stripe_size": 2048}]
        assert (cloud.issued(tenant)[0] or 0) >= (generation or 1)


@pytest.mark.parametrize(
    ("before", "after"),
    [("Pause", "Pause"), ("PauseForRestart", "Active"), ("Deleting", "Pause"), ("Active", "Active")],
)
def test_re_attach_resets_the_policy_the_same_everywhere(cloud: Cloud, before: str, after: str) -> None:
    """Trap 33: memory and database agree."""
    body = {"node_id": 1, "scheduling": before}
    cloud.api.ok("PUT", "/control/v1/node/1/config", body)
    cloud.node(1).kill()
    cloud.node(1).start()
    assert node_status(cloud, 1)["scheduling"] == after
    cloud.restart_controller()
    assert node_status(cloud, 1)["scheduling"] == after
    cloud.api.ok("POST", "/debug/v1/consistency_check")


def test_a_pageserver_that_lost_its_disk_gets_its_shards_again(cloud: Cloud) -> None:
    """I10: re-attach tells it of shards that it no longer has; they are sent to it."""
    tenant = cloud.create_tenant()
    cloud.node(1).kill()
    cloud.node(1).locations.clear()
    cloud.node(1).start()
    cloud.wait_active(cloud.node(1))
    cloud.wait_idle()
    generation, node = cloud.issued(tenant)
    assert node == 1
    assert cloud.node(1).attached[tenant].generation == generation


def test_a_new_pageserver_is_active_at_once(cloud: Cloud) -> None:
    """It need not wait for the next heartbeat, however rare those are."""
    node = FakePageserver(2, cloud.remote, cloud.api)
    node.start()
    try:
        cloud.wait(lambda: node_status(cloud, 2)["availability"] == "Active", "the node", timeout=2)
    finally:
        node.kill()


def test_silence_moves_shards(make_cloud: MakeCloud) -> None:
    """Offline after max-offline-interval, not before; then its shards are attached elsewhere."""
    cloud = make_cloud(nodes=2)
    tenant = cloud.create_tenant(shards=4)
    cloud.node(1).inject(Fault("GET /v1/utilization", 503, times=2))
    cloud.node(2).kill()
    wait_offline(cloud, 2)
    cloud.wait_idle()
    assert {cloud.issued(shard)[1] for shard in cloud.shards(tenant)} == {1}
    assert set(cloud.node(1).attached) == set(cloud.shards(tenant))
    assert "node 2 going offline" in cloud.log
    assert "Node 2 transition to offline" in cloud.log
    assert "Node 1 transition to offline" not in cloud.log
    cloud.node(2).start()
    cloud.wait_active(cloud.node(2))
    cloud.wait_idle()
    assert cloud.node(2).locations == {}
    assert node_status(cloud, 1)["availability"] == "Active"


def test_a_warm_secondary_takes_over(make_cloud: MakeCloud) -> None:
    cloud = make_cloud(nodes=3)
    tenant = cloud.create_tenant(policy={"Attached": 1})
    home = cloud.issued(tenant)[1]
    assert home is not None
    (warm,) = (n.id for n in cloud.nodes if n.id != home and tenant in n.locations)
    cloud.node(home).kill()
    wait_offline(cloud, home)
    cloud.wait_idle()
    assert cloud.issued(tenant) == (2, warm)
    cloud.node(home).start()
    cloud.wait_active(cloud.node(home))
    cloud.wait_idle()
    assert cloud.node(home).locations[tenant]["mode"] == "Secondary"


def test_one_node_alone_keeps_its_shards(cloud: Cloud) -> None:
    """There is nowhere to go: they wait for it."""
    tenant = cloud.create_tenant()
    cloud.node(1).kill()
    wait_offline(cloud, 1)
    assert cloud.issued(tenant) == (1, 1)
    cloud.node(1).start()
    cloud.wait_active(cloud.node(1))
    cloud.wait_idle()
    assert cloud.node(1).attached[tenant].generation == cloud.issued(tenant)[0]


def test_a_node_that_died_with_the_controller_is_left(make_cloud: MakeCloud) -> None:
    """I10: nobody saw it die, but its shards move all the same."""
    cloud = make_cloud(nodes=2)
    tenant = cloud.create_tenant(shards=2)
    cloud.kill_controller()
    cloud.node(2).kill()
    cloud.start_controller()
    cloud.wait(
        lambda: {cloud.issued(shard)[1] for shard in cloud.shards(tenant)} == {1}, "shards to leave node 2"
    )


def test_controller_restart_changes_nothing(make_cloud: MakeCloud) -> None:
    """No reconcile, no new generation, no secondary lost, wherever a new one would go."""
    cloud = make_cloud(nodes=3)
    pause = "/control/v1/node/2/config"
    cloud.api.ok("PUT", pause, {"node_id": 2, "scheduling": "Pause"})
    tenant = cloud.create_tenant(shards=4, policy={"Attached": 1})
    cloud.api.ok("PUT", pause, {"node_id": 2, "scheduling": "Active"})
    assert cloud.node(2).locations == {}
    before = [(n.locations.copy(), len(n.calls("PUT"))) for n in cloud.nodes]
    cloud.restart_controller()
    assert cloud.api.ok("POST", "/debug/v1/reconcile_all") == 0
    cloud.api.ok("POST", "/debug/v1/consistency_check")
    assert [(n.locations, len(n.calls("PUT"))) for n in cloud.nodes] == before
    assert [cloud.issued(shard)[0] for shard in cloud.shards(tenant)] == [1] * 4


def test_unknown_locations_are_detached(cloud: Cloud) -> None:
    stranger = uuid.uuid4().hex
    cloud.node(1).locations[stranger] = {"mode": "Secondary", "tenant_conf": {}}
    cloud.restart_controller()
    cloud.wait(lambda: stranger not in cloud.node(1).locations, "the stranger to go")
    assert f"Detaching {stranger}" in cloud.log


def test_configure_by_hand(make_cloud: MakeCloud) -> None:
    cloud = make_cloud(nodes=2)
    config = "/control/v1/node/1/config"
    assert cloud.api.call("PUT", config, {"node_id": 2}) == (400, {"msg": '"Path and body node_id differ"'})
    assert cloud.api.call("PUT", "/control/v1/node/9/config", {"node_id": 9})[0] == 404
    cloud.api.ok("PUT", config, {"node_id": 1, "scheduling": "Pause"})
    tenant = cloud.create_tenant()
    assert cloud.issued(tenant)[1] == 2
    assert cloud.query("SELECT scheduling_policy FROM nodes WHERE node_id = 1") == [("pause",)]
    cloud.node(1).kill()
    wait_offline(cloud, 1)
    status, answer = cloud.api.call("PUT", config, {"node_id": 1, "availability": "Active"})
    assert (status, "Failed to query node location configs" in answer["msg"]) == (412, True)


def test_dropped_node(make_cloud: MakeCloud) -> None:
    cloud = make_cloud(nodes=2)
    tenant = cloud.create_tenant(shards=2)
    cloud.api.ok("POST", "/debug/v1/node/2/drop")
    cloud.wait_idle()
    assert {cloud.issued(shard)[1] for shard in cloud.shards(tenant)} == {1}
    assert cloud.api.call("GET", "/control/v1/node/2")[0] == 404


def test_node_shards_and_scheduler(make_cloud: MakeCloud) -> None:
    cloud = make_cloud(nodes=2)
    tenant = cloud.create_tenant(policy={"Attached": 1})
    home = cloud.issued(tenant)[1]
    for node in cloud.nodes:
        (entry,) = cloud.api.ok("GET", f"/control/v1/node/{node.id}/shards")["shards"]
        assert entry["is_intended_secondary"] == entry["is_observed_secondary"] == (node.id != home)
    scheduler = cloud.api.ok("GET", "/debug/v1/scheduler")["nodes"]
    assert {n["attached_shard_count"] for n in scheduler.values()} == {0, 1}


def test_without_nodes_a_tenant_waits_for_one(make_cloud: MakeCloud) -> None:
    """Its rows stay; the first node that comes gets it."""
    cloud = make_cloud(nodes=0)
    tenant = uuid.uuid4().hex
    assert cloud.api.call("POST", "/v1/tenant", {"new_tenant_id": tenant}) == (
        409,
        {"msg": "Conflict: Failed to schedule shard(s): No pageservers found"},
    )
    node = FakePageserver(1, cloud.remote, cloud.api)
    node.start()
    try:
        cloud.wait(lambda: tenant in node.attached, "the tenant to be attached")
    finally:
        node.kill()


def test_validate(cloud: Cloud) -> None:
    """Unknown shards are left out of the answer."""
    tenant = cloud.create_tenant()
    asked = [{"id": tenant, "gen": 1}, {"id": tenant, "gen": 2}, {"id": uuid.uuid4().hex, "gen": 1}]
    answer = cloud.api.ok("POST", "/upcall/v1/validate", {"tenants": asked})
    assert answer == {"tenants": [{"id": tenant, "valid": True}, {"id": tenant, "valid": False}]}


def test_computes_are_told_where_shards_are(make_cloud: MakeCloud) -> None:
    cloud = make_cloud(nodes=2)
    tenant = cloud.create_tenant(shards=2)

    def last() -> dict[int, int]:
        calls = [c for c in cloud.control_plane.notify_attach_calls if str(c.tenant_id) == tenant]
        return {s.shard_number: s.node_id for s in calls[-1].shards} if calls else {}

    def right() -> bool:
        return last() == {n: cloud.issued(shard)[1] for n, shard in enumerate(cloud.shards(tenant))}

    cloud.wait(right, "the first notification")
    cloud.node(2).kill()
    cloud.wait(lambda: right() and set(last().values()) == {1}, "the notification of the move")
