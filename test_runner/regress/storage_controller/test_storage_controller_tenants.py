"""Tenants and their locations."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from test_runner.regress.storage_controller.api import Refused
from test_runner.regress.storage_controller.cloud import Cloud
from test_runner.regress.storage_controller.conftest import MakeCloud
from test_runner.regress.storage_controller.fake_pageserver import Fault


def describe(cloud: Cloud, tenant: str) -> dict[str, Any]:
    described: dict[str, Any] = cloud.api.ok("GET", f"/control/v1/tenant/{tenant}")
    return described


def attached(cloud: Cloud, shard: str) -> list[tuple[int, str, int]]:
    """Node, mode and generation of every attached location."""
    return [
        (node.id, node.attached[shard].conf["mode"], node.attached[shard].generation)
        for node in cloud.nodes
        if shard in node.attached
    ]


def test_create_answers_the_initial_generation(cloud: Cloud) -> None:
    """Trap 6: it says 0; the pageserver gets 1."""
    tenant = uuid.uuid4().hex
    answer = cloud.api.call("POST", "/v1/tenant", {"new_tenant_id": tenant})
    assert answer == (201, {"shards": [{"shard_id": tenant, "node_id": 1, "generation": 0}]})
    assert attached(cloud, tenant) == [(1, "AttachedSingle", 1)]
    assert cloud.issued(tenant) == (1, 1)
    described = describe(cloud, tenant)
    assert described["stripe_size"] == 2048
    assert described["policy"] == {"Attached": 0}
    assert described["shards"][0]["node_attached"] == 1


def test_create_again(cloud: Cloud) -> None:
    """The same again is no error and changes nothing; another number of shards conflicts (trap 28a)."""
    tenant = cloud.create_tenant(shards=2)
    body = {"new_tenant_id": tenant, "shard_parameters": {"count": 2, "stripe_size": 2048}}
    status, answer = cloud.api.call("POST", "/v1/tenant", body)
    assert status == 201
    assert [shard["shard_id"] for shard in answer["shards"]] == cloud.shards(tenant)
    for count in (0, 1, 4):
        body["shard_parameters"] = {"count": count, "stripe_size": 2048}
        assert cloud.api.call("POST", "/v1/tenant", body)[0] == 409
    assert len(cloud.shards(tenant)) == 2


def test_two_creations_at_once(cloud: Cloud) -> None:
    tenant = uuid.uuid4().hex
    with ThreadPoolExecutor(4) as pool:
        statuses = list(
            pool.map(lambda _: cloud.api.call("POST", "/v1/tenant", {"new_tenant_id": tenant})[0], range(4))
        )
    assert statuses == [201] * 4
    assert cloud.shards(tenant) == [tenant]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"new_tenant_id": "11" * 16 + "-0002"}, "specific shard"),
        ({"new_tenant_id": "nonsense"}, "tenant shard id"),
        ({}, "new_tenant_id"),
        ({"new_tenant_id": "11" * 16, "nonsense": 1}, "nonsense"),
        ({"new_tenant_id": "11" * 16, "shard_parameters": None}, "shard_parameters"),
        ({"new_tenant_id": "11" * 16, "shard_parameters": {"count": 2}}, "stripe_size"),
        ({"new_tenant_id": "11" * 16, "shard_parameters": {"count": 2, "stripe_size": 0}}, "stripe size"),
        (
            {"new_tenant_id": "11" * 16, "shard_parameters": {"count": 999, "stripe_size": 1}},
            "rs.count",
        ),
        ({"new_tenant_id": "11" * 16, "placement_policy": {"Attached": -1}}, "placement policy"),
        ({"new_tenant_id": "11" * 16, "generation": -1}, "generation"),
        (b"{", "Failed to parse json request"),
        (b"", "missing request body"),
        (b"\xff", "Failed to parse json request"),
    ],
)
def test_bad_creations_are_refused_by_name(cloud: Cloud, body: Any, complaint: str) -> None:
    status, answer = cloud.api.call("POST", "/v1/tenant", body)
    assert status == 400
    assert complaint in answer["msg"]
    assert cloud.query("SELECT 1 FROM tenant_shards") == []


def test_locate_and_inspect(cloud: Cloud) -> None:
    tenant = cloud.create_tenant(shards=2)
    located = cloud.api.ok("GET", f"/debug/v1/tenant/{tenant}/locate")
    assert located["shard_params"] == {"count": 2, "stripe_size": 2048}
    assert [s["listen_http_port"] for s in located["shards"]] == [cloud.node(1).port] * 2
    inspect = "/debug/v1/inspect"
    shard = cloud.shards(tenant)[0]
    assert cloud.api.ok("POST", inspect, {"tenant_shard_id": shard}) == {"attachment": [1, 1]}
    cloud.set_policy(tenant, "Detached")
    cloud.wait_idle()
    assert cloud.api.ok("POST", inspect, {"tenant_shard_id": shard}) == {"attachment": None}
    assert cloud.api.call("GET", f"/debug/v1/tenant/{tenant}/locate") == (
        400,
        {"msg": '"Cannot locate a tenant that is not attached"'},
    )
    assert cloud.api.call("GET", f"/debug/v1/tenant/{uuid.uuid4().hex}/locate")[0] == 404


def test_list_is_paged(cloud: Cloud) -> None:
    tenants = sorted(cloud.create_tenant() for _ in range(3))
    listed = cloud.api.ok("GET", "/control/v1/tenant?limit=2")
    assert [entry["tenant_id"] for entry in listed] == tenants[:2]
    rest = cloud.api.ok("GET", f"/control/v1/tenant?start_after={tenants[1]}")
    assert [entry["tenant_id"] for entry in rest] == tenants[2:]
    assert cloud.api.call("GET", "/control/v1/tenant?limit=many")[0] == 400


def test_detach_and_attach(cloud: Cloud) -> None:
    """The generation survives, and rises with the next attachment."""
    tenant = cloud.create_tenant()
    cloud.set_policy(tenant, "Detached")
    cloud.wait_idle()
    assert cloud.node(1).locations == {}
    assert cloud.issued(tenant) == (1, None)
    cloud.restart_controller()
    cloud.set_policy(tenant, {"Attached": 0})
    cloud.wait_idle()
    assert attached(cloud, tenant) == [(1, "AttachedSingle", 2)]
    with pytest.raises(Refused, match="404"):
        cloud.set_policy(uuid.uuid4().hex, "Detached")


def test_attach_before_the_detach_was_carried_out(cloud: Cloud) -> None:
    """What the database withdrew is issued anew, although the location never went away."""
    tenant = cloud.create_tenant()
    gate = cloud.node(1).hold("PUT .*location_config")
    cloud.set_policy(tenant, "Detached")
    cloud.set_policy(tenant, {"Attached": 0})
    gate.set()
    cloud.wait_idle()
    generation, node = cloud.issued(tenant)
    assert node == 1
    assert attached(cloud, tenant) == [(1, "AttachedSingle", generation)]


def test_policy_answers_before_the_reconcile(cloud: Cloud) -> None:
    """Trap 22, as documented: callers poll."""
    tenant = cloud.create_tenant()
    gate = cloud.node(1).hold("PUT .*location_config")
    cloud.set_policy(tenant, "Detached")
    assert tenant in cloud.node(1).locations
    gate.set()
    cloud.wait_idle()


def test_consistency_check_waits_for_what_is_under_way(cloud: Cloud) -> None:
    """Trap 23: a reconcile is no inconsistency; a difference is."""
    tenant = cloud.create_tenant()
    gate = cloud.node(1).hold("PUT .*location_config")
    cloud.set_policy(tenant, "Detached")
    with ThreadPoolExecutor(1) as pool:
        check = pool.submit(cloud.api.call, "POST", "/debug/v1/consistency_check")
        gate.set()
        assert check.result() == (200, None)
    cloud.execute("UPDATE tenant_shards SET generation = 77")
    status, answer = cloud.api.call("POST", "/debug/v1/consistency_check")
    assert status == 500
    assert "Shard consistency failure" in answer["msg"]


def test_config_change_keeps_the_generation(cloud: Cloud) -> None:
    tenant = cloud.create_tenant()
    cloud.api.ok("PUT", "/v1/tenant/config", {"tenant_id": tenant, "gc_period": "1h", "pitr_interval": "2h"})
    cloud.api.ok("PATCH", "/v1/tenant/config", {"tenant_id": tenant, "gc_period": None, "gc_horizon": 1})
    assert attached(cloud, tenant) == [(1, "AttachedSingle", 1)]
    assert cloud.node(1).attached[tenant].conf["tenant_conf"] == {"pitr_interval": "2h", "gc_horizon": 1}
    assert describe(cloud, tenant)["config"] == {"pitr_interval": "2h", "gc_horizon": 1}
    assert cloud.api.call("PUT", "/v1/tenant/config", {"tenant_id": tenant, "nonsense": 1})[0] == 400


def test_location_config_creates_and_moves(make_cloud: MakeCloud) -> None:
    """A tenant that comes with a generation keeps it; the first attachment here is the next one."""
    cloud = make_cloud(nodes=2)
    tenant = uuid.uuid4().hex
    path = f"/v1/tenant/{tenant}/location_config"
    location: dict[str, Any] = {"mode": "Secondary", "secondary_conf": {"warm": True}, "tenant_conf": {}}
    assert cloud.api.ok("PUT", path, location) == {"shards": [], "stripe_size": None}
    assert cloud.issued(tenant) == (None, None)
    location = {"mode": "AttachedSingle", "generation": 7, "tenant_conf": {"gc_horizon": 1}}
    answer = cloud.api.ok("PUT", path, location)
    cloud.wait_idle()
    ((node, _, generation),) = attached(cloud, tenant)
    assert answer["shards"] == [{"shard_id": tenant, "node_id": node}]
    assert generation == 8
    assert describe(cloud, tenant)["policy"] == {"Attached": 1}
    assert sum(tenant in n.locations for n in cloud.nodes) == 2
    cloud.api.ok("PUT", path, {"mode": "Detached", "tenant_conf": {}})
    cloud.wait_idle()
    assert [n.locations for n in cloud.nodes] == [{}, {}]
    assert cloud.api.call("PUT", path, {"mode": "Nonsense", "tenant_conf": {}})[0] == 400
    assert cloud.api.call("PUT", f"/v1/tenant/{tenant}-0002/location_config", location)[0] == 400


def test_delete_removes_locations_objects_and_rows(cloud: Cloud) -> None:
    """I9"""
    tenant = cloud.create_tenant(shards=2)
    cloud.create_import(tenant)
    assert cloud.remote.indices
    assert cloud.api.call("DELETE", f"/v1/tenant/{tenant}") == (200, None)
    assert cloud.node(1).locations == {}
    assert cloud.remote.indices == {}
    assert cloud.query("SELECT 1 FROM tenant_shards") == []
    assert cloud.api.call("DELETE", f"/v1/tenant/{tenant}") == (
        404,
        {"msg": f"NotFound: Tenant {tenant} not found"},
    )


def test_delete_waits_for_a_node_that_has_just_started(make_cloud: MakeCloud) -> None:
    """I9: it was told to attach, and what it writes must come before the objects are removed, not after."""
    cloud = make_cloud(nodes=2)
    tenant = cloud.create_tenant(shards=2)
    cloud.create_import(tenant)
    node, other = cloud.node(1), cloud.node(2)
    node.kill()
    not_yet = node.hold("GET /v1/utilization")
    node.start()
    assert node.attached
    with ThreadPoolExecutor(1) as pool:
        deletion = pool.submit(cloud.api.call, "DELETE", f"/v1/tenant/{tenant}")
        cloud.wait(lambda: cloud.log.count("Updated placement policy to"), "the deletion to begin")
        with pytest.raises(TimeoutError):
            deletion.result(timeout=0.3)
        assert not other.calls("DELETE")
        not_yet.set()
        assert deletion.result() == (200, None)
    assert (node.locations, other.locations) == ({}, {})
    assert cloud.remote.indices == {}


def test_attach_hook_issues_generations(make_cloud: MakeCloud) -> None:
    """The database changes; the pageservers are left to whoever asked."""
    cloud = make_cloud(nodes=2)
    shard = uuid.uuid4().hex
    hook = "/debug/v1/attach-hook"
    assert cloud.api.ok("POST", hook, {"tenant_shard_id": shard, "node_id": 1}) == {"gen": 1}
    assert cloud.api.ok("POST", hook, {"tenant_shard_id": shard, "node_id": 2}) == {"gen": 2}
    assert cloud.issued(shard) == (2, 2)
    overridden = {"tenant_shard_id": shard, "node_id": 2, "generation_override": 9}
    assert cloud.api.ok("POST", hook, overridden) == {"gen": 9}
    cloud.wait_idle()
    assert [n.locations for n in cloud.nodes] == [{}, {}]
    assert cloud.api.ok("POST", hook, {"tenant_shard_id": shard, "node_id": None}) == {"gen": None}
    assert cloud.issued(shard) == (9, None)
    cloud.api.ok("POST", "/debug/v1/consistency_check")


def test_generation_override_never_goes_back(cloud: Cloud) -> None:
    """Generations strictly rise, whoever asks for less."""
    tenant = cloud.create_tenant()
    body = {"tenant_shard_id": tenant, "node_id": 1, "generation_override": 1}
    assert cloud.api.ok("POST", "/debug/v1/attach-hook", body) == {"gen": 2}


# Migration


def migration(node: int, **config: Any) -> dict[str, Any]:
    return {"node_id": node, "migration_config": {"prewarm": False, **config}}


def test_migrate_in_order(make_cloud: MakeCloud) -> None:
    """Stale, multi, secondary, single: reads never stop, and the generation is durable before it is used."""
    cloud = make_cloud(nodes=2)
    tenant = cloud.create_tenant()
    origin = cloud.issued(tenant)[1]
    assert origin is not None
    destination = 3 - origin
    seen: list[tuple[int, str, int | None]] = []
    for node in cloud.nodes:
        route = node._configure

        def record(shard: str, conf: dict[str, Any], node: Any = node, route: Any = route) -> Any:
            seen.append((node.id, conf["mode"], conf["generation"]))
            return route(shard, conf)

        node._configure = record  # type: ignore[method-assign]
    cloud.api.ok("PUT", f"/control/v1/tenant/{tenant}/migrate", migration(destination))
    assert seen == [
        (origin, "AttachedStale", 1),
        (destination, "AttachedMulti", 2),
        (origin, "Secondary", None),
        (destination, "AttachedSingle", 2),
        (origin, "Detached", None),
    ]
    assert "flush_ms=10000" in cloud.node(origin).calls("PUT .*flush_ms")[0][1]
    assert cloud.issued(tenant) == (2, destination)
    assert "✅ Migration complete" in cloud.log


def test_migrate_refuses(make_cloud: MakeCloud) -> None:
    cloud = make_cloud(nodes=3, zones=["az-1", "az-1", "az-2"])
    tenant = cloud.create_tenant()
    origin = cloud.issued(tenant)[1]
    path = f"/control/v1/tenant/{tenant}/migrate"
    assert cloud.api.call("PUT", path, migration(9)) == (400, {"msg": '"Node 9 not found"'})
    unknown = f"/control/v1/tenant/{uuid.uuid4().hex}/migrate"
    assert cloud.api.call("PUT", unknown, migration(1))[0] == 404
    home = describe(cloud, tenant)["shards"][0]["preferred_az_id"]
    foreign = next(n.id for n in cloud.nodes if n.availability_zone != home)
    assert cloud.api.call("PUT", path, migration(foreign)) == (
        412,
        {"msg": "Precondition failed: Migration to a worse-scoring node"},
    )
    wrong_origin = {**migration(foreign, override_scheduler=True), "origin_node_id": 99}
    assert "expected to originate" in cloud.api.call("PUT", path, wrong_origin)[1]["msg"]
    assert cloud.issued(tenant) == (1, origin)
    cloud.node(foreign).kill()
    cloud.wait(
        lambda: cloud.api.ok("GET", f"/control/v1/node/{foreign}")["availability"] == "Offline", "offline"
    )
    assert "is unavailable" in cloud.api.call("PUT", path, migration(foreign))[1]["msg"]
    assert cloud.api.call("PUT", path, migration(origin or 0)) == (200, {})
    cloud.set_policy(tenant, "Detached")
    assert cloud.api.call("PUT", path, migration(origin or 0))[0] == 400


def test_graceful_migration(make_cloud: MakeCloud) -> None:
    """A secondary first; the cut-over follows by itself."""
    cloud = make_cloud(nodes=2)
    tenant = cloud.create_tenant()
    origin = cloud.issued(tenant)[1]
    assert origin is not None
    cloud.api.ok("PUT", f"/control/v1/tenant/{tenant}/migrate", {"node_id": 3 - origin})
    cloud.wait(lambda: cloud.issued(tenant)[1] == 3 - origin, "the cut-over")
    cloud.wait_idle()
    assert attached(cloud, tenant) == [(3 - origin, "AttachedSingle", 2)]


def test_a_migrated_shard_with_secondaries_leaves_one_behind(make_cloud: MakeCloud) -> None:
    cloud = make_cloud(nodes=2)
    tenant = cloud.create_tenant(policy={"Attached": 1})
    origin = cloud.issued(tenant)[1]
    assert origin is not None
    assert cloud.node(3 - origin).locations[tenant]["mode"] == "Secondary"
    cloud.api.ok("PUT", f"/control/v1/tenant/{tenant}/migrate", migration(3 - origin))
    cloud.wait_idle()
    assert attached(cloud, tenant) == [(3 - origin, "AttachedSingle", 2)]
    assert cloud.node(origin).locations[tenant]["mode"] == "Secondary"
    assert cloud.node(3 - origin).attached[tenant].conf["tenant_conf"] == {"heatmap_period": "60s"}


@pytest.mark.parametrize("point", ["pre-generation-inc", "post-generation-inc", "post-notify", "post-detach"])
def test_a_migration_that_fails_anywhere_is_completed(make_cloud: MakeCloud, point: str) -> None:
    """I10: whatever is left half-way, the shard ends at its destination, in a generation of its own."""
    cloud = make_cloud(nodes=2)
    tenant = cloud.create_tenant()
    origin = cloud.issued(tenant)[1]
    assert origin is not None
    cloud.failpoint(f"reconciler-live-migrate-{point}", "1*return")
    status, answer = cloud.api.call("PUT", f"/control/v1/tenant/{tenant}/migrate", migration(3 - origin))
    assert (status, point in answer["msg"]) == (500, True)
    cloud.wait_idle()
    generation, node = cloud.issued(tenant)
    assert node == 3 - origin
    assert attached(cloud, tenant) == [(node, "AttachedSingle", generation)]


# Timelines that are no imports, and forwarding


def test_plain_timelines(cloud: Cloud) -> None:
    tenant = cloud.create_tenant(shards=2)
    timeline = uuid.uuid4().hex
    created = cloud.api.ok("POST", f"/v1/tenant/{tenant}/timeline", {"new_timeline_id": timeline})
    assert created["timeline_id"] == timeline
    assert created["safekeepers"] is None
    found = cloud.api.ok("GET", f"/control/v1/tenant/{tenant}/timeline/{timeline}")
    assert [shard["tenant_id"] for shard in found["shards"]] == cloud.shards(tenant)
    assert cloud.query("SELECT 1 FROM timeline_imports") == []
    assert cloud.api.call("DELETE", f"/v1/tenant/{tenant}/timeline/{timeline}") == (200, None)


def test_a_pageservers_errors_are_mapped(cloud: Cloud) -> None:
    """The documented table; 429 and 406 become 409 (trap 4)."""
    tenant = cloud.create_tenant()
    path = f"/v1/tenant/{tenant}/timeline"
    node = "1 (127.0.0.1)"
    for given, (status, text) in {
        404: (404, f"NotFound: {node}: injected"),
        503: (503, f"{node}: injected"),
        401: (500, f"{node}: injected"),
        403: (500, f"{node}: injected"),
        429: (409, f"Conflict: {node} 429 Too Many Requests: 429 Too Many Requests injected"),
        406: (409, f"Conflict: {node} 406 Not Acceptable: 406 Not Acceptable injected"),
        412: (409, f"Conflict: {node} 412 Precondition Failed: 412 Precondition Failed injected"),
        500: (409, f"Conflict: {node} 500 Internal Server Error: 500 Internal Server Error injected"),
    }.items():
        cloud.node(1).inject(Fault(r"POST .*/timeline$", given))
        answer = cloud.api.call("POST", path, {"new_timeline_id": uuid.uuid4().hex})
        assert (answer[0], answer[1]["msg"]) == (status, text)
    cloud.node(1).inject(Fault(r"POST .*/timeline$", None))
    assert cloud.api.call("POST", path, {"new_timeline_id": uuid.uuid4().hex})[0] == 503


def test_gets_are_forwarded_to_shard_zero(cloud: Cloud) -> None:
    tenant = cloud.create_tenant(shards=2)
    zero = cloud.shards(tenant)[0]
    assert cloud.api.ok("GET", f"/v1/tenant/{tenant}") == {"id": zero, "generation": 1}
    assert cloud.api.ok("GET", f"/v1/tenant/{tenant}/timeline?x=1") == []
    assert cloud.node(1).calls("GET .*x=1") == [("GET", f"/v1/tenant/{zero}/timeline?x=1")]
    assert cloud.api.call("GET", f"/v1/tenant/{tenant}/timeline/{uuid.uuid4().hex}")[0] == 404
    assert cloud.api.call("GET", f"/v1/tenant/{uuid.uuid4().hex}/timeline")[0] == 404


def test_unknown_routes_and_ids_are_4xx(cloud: Cloud) -> None:
    tenant = cloud.create_tenant()
    for method, path, status in (
        ("GET", "/nonsense", 404),
        ("PUT", "/v1/tenant", 404),
        ("GET", "/control/v1/tenant/nonsense", 400),
        ("GET", "/control/v1/node/nonsense", 400),
        ("POST", "/v1/tenant/nonsense/timeline", 400),
        ("DELETE", f"/v1/tenant/{tenant}/timeline/nonsense", 400),
        ("PUT", "/control/v1/node/1/drain", 400),
        ("PUT", "/control/v1/node/1/fill", 400),
    ):
        answer = cloud.api.call(method, path, {})
        assert answer[0] == status, (method, path, answer)
        assert set(answer[1]) == {"msg"}
