"""Rows that somebody else has spoilt: each is named and left out, and everything else goes on."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from test_runner.regress.storage_controller.cloud import Cloud
from test_runner.regress.storage_controller.conftest import MakeCloud


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


TOO_DEEP = nested(100_000)
"""For any Python: some take ten thousand levels."""
DEEP_JSONB = nested(2000)
"""PostgreSQL itself takes a few thousand."""

PROGRESS = {"jobs": 3, "completed": 1, "import_plan_hash": 1, "job_soft_size_limit": 1}

SHARDS: dict[str, dict[str, Any]] = {
    "tenant id": {"tenant_id": "zz"},
    "tenant id in capitals": {"tenant_id": "AB" * 16},
    "shard number": {"shard_number": 300},
    "negative shard number": {"shard_number": -1},
    "number beyond count": {"shard_number": 5, "shard_count": 2},
    "shard count": {"shard_count": 300},
    "stripe size": {"shard_stripe_size": 0},
    "generation": {"generation": -1},
    "policy": {"placement_policy": "nonsense"},
    "policy of another shape": {"placement_policy": "[]"},
    "policy with a negative count": {"placement_policy": '{"Attached": -1}'},
    "deep policy": {"placement_policy": TOO_DEEP},
    "config": {"config": "nonsense"},
    "config of another shape": {"config": "[]"},
    "deep config": {"config": TOO_DEEP},
    "scheduling policy": {"scheduling_policy": '"Sometimes"'},
    "scheduling policy without quotes": {"scheduling_policy": "Active"},
}

IMPORTS: dict[str, dict[str, Any]] = {
    "tenant id": {"tenant_id": "zz"},
    "timeline id": {"timeline_id": "zz"},
    "timeline id in capitals": {"timeline_id": "AB" * 16},
    "list of statuses": {"shard_statuses": []},
    "number of statuses": {"shard_statuses": 5},
    "no statuses": {"shard_statuses": {}},
    "unknown status": {"shard_statuses": {"0000": "bogus"}},
    "unknown shard": {"shard_statuses": {"zz": "Done"}},
    "shard beyond count": {"shard_statuses": {"0502": "Done"}},
    "negative jobs": {"shard_statuses": {"0000": {"InProgress": {"V1": PROGRESS | {"jobs": -1}}}}},
    "jobs by name": {"shard_statuses": {"0000": {"InProgress": {"V1": PROGRESS | {"jobs": "many"}}}}},
    "huge jobs": {"shard_statuses": {"0000": {"InProgress": {"V1": PROGRESS | {"jobs": 10**400}}}}},
    "deep status": {"shard_statuses": {"0000": "DEEP"}},
    "request of another shape": {"request": []},
    "request without timeline": {"request": {"import_pgdata": {}}},
    "request for no import": {"request": {"new_timeline_id": "12" * 16}},
    "creation at no time": {"created_at": "infinity"},
    "creation before all time": {"created_at": "-infinity"},
    "creation in the far future": {"created_at": "20000-01-01 00:00:00+00"},
    "history of another shape": {"shard_history": []},
    "history of numbers": {"shard_history": {"0000": 5}},
    "history without time": {"shard_history": {"0000": {"jobs": 1}}},
    "history with jobs by name": {"shard_history": {"0000": {"changed_at": "x", "jobs": "many"}}},
}

NODES: dict[str, dict[str, Any]] = {
    "scheduling policy": {"scheduling_policy": "sometimes"},
    "lifecycle": {"lifecycle": "undead"},
    "port": {"listen_pg_port": 70000},
    "negative port": {"listen_https_port": -1},
    "negative id": {"node_id": -1},
}


def spoilt_copy(cloud: Cloud, table: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Adds a copy of the table's first row with an id of its own, and `changes`. Returns its ids."""
    ids: dict[str, Any] = {}
    if table == "nodes":
        ids["node_id"] = 1000 + int(uuid.uuid4().hex[:6], 16)
    elif table == "tenant_shards":
        ids["tenant_id"] = uuid.uuid4().hex
    else:
        # Of the tenant that there is: imports of no tenant are removed.
        ids["tenant_id"] = cloud.query(f"SELECT tenant_id FROM {table}")[0][0]
        ids["timeline_id"] = uuid.uuid4().hex
    values = ids | changes
    cloud.execute(
        f"INSERT INTO {table} SELECT (jsonb_populate_record(t, %s::text::jsonb)).* FROM {table} t"
        " ORDER BY ctid LIMIT 1",
        json.dumps(values).replace('"DEEP"', DEEP_JSONB),
    )
    return {name: values[name] for name in ids}


def test_each_is_named_and_left_out(make_cloud: MakeCloud) -> None:
    """The others, and their imports, are what they were; nothing is done about those that are left out."""
    cloud = make_cloud(nodes=2)
    tenant = cloud.create_tenant()
    timeline = cloud.create_import(tenant)
    cloud.report(tenant, timeline, {"InProgress": {"V1": PROGRESS}})
    cloud.kill_controller()
    spoilt = [
        (table, name, spoilt_copy(cloud, table, changes))
        for table, kinds in (("nodes", NODES), ("tenant_shards", SHARDS), ("timeline_imports", IMPORTS))
        for name, changes in kinds.items()
    ]
    tables = ("nodes", "tenant_shards", "timeline_imports")
    before = {table: cloud.query(f"SELECT t::text FROM {table} t ORDER BY 1") for table in tables}
    cloud.start_controller()
    for table, name, ids in spoilt:
        key = ", ".join(f"{column} = {value}" for column, value in ids.items())
        assert f"ERROR Left out: row of {table} ({key}" in cloud.log, f"{name} of {table}"
    assert cloud.log.count("ERROR") == len(spoilt)
    assert {n["id"] for n in cloud.api.ok("GET", "/control/v1/node")} == {1, 2}
    assert [t["tenant_id"] for t in cloud.api.ok("GET", "/control/v1/tenant")] == [tenant]
    assert [i["timeline_id"] for i in cloud.api.ok("GET", "/control/v1/import")] == [timeline]
    after = {table: cloud.query(f"SELECT t::text FROM {table} t ORDER BY 1") for table in tables}
    assert after == before
    assert cloud.report(tenant, timeline, "Done")[0] == 200
    assert cloud.wait_told(timeline) is None
    status, answer = cloud.api.call("POST", "/debug/v1/consistency_check")
    assert status == 500
    assert all(str(ids.popitem()[1]) in answer["msg"] for table, _, ids in spoilt if table != tables[2])


def test_a_tenant_that_is_left_out_stays_where_it_is(make_cloud: MakeCloud) -> None:
    """I7: its pageservers keep it, it gets its generation after a restart, and requests say why not."""
    cloud = make_cloud(nodes=1)
    tenant, other = cloud.create_tenant(shards=2), cloud.create_tenant()
    cloud.kill_controller()
    cloud.execute("UPDATE tenant_shards SET config = 'x' WHERE tenant_id = %s AND shard_number = 1", tenant)
    node = cloud.node(1)
    held = {shard: dict(conf) for shard, conf in node.locations.items()}
    cloud.start_controller()
    cloud.wait_active(node)
    cloud.wait_idle()
    assert node.locations == held
    for method, path, body in (
        ("GET", f"/control/v1/tenant/{tenant}", None),
        ("PUT", f"/control/v1/tenant/{tenant}/policy", {"placement": "Detached"}),
        ("POST", f"/v1/tenant/{tenant}/timeline", cloud.import_body(uuid.uuid4().hex)),
        ("POST", "/debug/v1/attach-hook", {"tenant_shard_id": f"{tenant}-0102", "node_id": 1}),
    ):
        status, answer = cloud.api.call(method, path, body)
        assert status == 503 and f"row of tenant_shards (tenant_id = {tenant}" in answer["msg"]
    status, answer = cloud.api.call("POST", "/v1/tenant", {"new_tenant_id": tenant})
    assert status == 500 and "makes no sense" in answer["msg"]
    given = cloud.api.ok("POST", "/upcall/v1/re-attach", {"node_id": 1})["tenants"]
    assert {t["id"] for t in given} == {f"{tenant}-0002", f"{tenant}-0102", other}


def test_shards_of_a_node_that_is_left_out_go_elsewhere(make_cloud: MakeCloud) -> None:
    cloud = make_cloud(nodes=2)
    tenant = cloud.create_tenant(shards=2)
    cloud.kill_controller()
    cloud.execute("UPDATE nodes SET scheduling_policy = 'sometimes' WHERE node_id = 2")
    cloud.start_controller()
    cloud.wait(lambda: {cloud.issued(s)[1] for s in cloud.shards(tenant)} == {1}, "all shards on node 1")
    status, answer = cloud.api.call("POST", "/upcall/v1/re-attach", {"node_id": 2})
    assert status == 500 and "row of nodes (node_id = 2) makes no sense" in answer["msg"]
    cloud.wait_idle()


@pytest.mark.parametrize("statuses", ['"x"', "{}", '{"0000": "bogus"}'])
def test_spoilt_while_the_controller_runs(cloud: Cloud, statuses: str) -> None:
    """I10: reports of other imports are recorded, in the same transaction too, and the process lives."""
    tenants = [cloud.create_tenant() for _ in range(6)]
    timelines = [cloud.create_import(tenant) for tenant in tenants]
    cloud.execute(
        "UPDATE timeline_imports SET shard_statuses = %s::text::jsonb WHERE timeline_id = %s",
        statuses,
        timelines[3],
    )
    # While the first report is being recorded the others gather, and are recorded together.
    cloud.failpoint("storcon-write-update-import-pre", "1*sleep(300)")
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda i: cloud.report(tenants[i], timelines[i], "Done"), range(6)))
    assert [status for status, _ in answers] == [200, 200, 200, 500, 200, 200]
    named = f"row of timeline_imports (tenant_id = {tenants[3]}, timeline_id = {timelines[3]}) makes no sense"
    assert named in answers[3][1]["msg"]
    assert cloud.fetch(tenants[3], timelines[3])[0] == 500
    for timeline in (*timelines[:3], *timelines[4:]):
        assert cloud.wait_told(timeline) is None
    assert [i["timeline_id"] for i in cloud.api.ok("GET", "/control/v1/import")] == []
    assert cloud.told(timelines[3]) == []


def test_spoilt_while_it_is_created(cloud: Cloud) -> None:
    tenant, timeline = cloud.create_tenant(), uuid.uuid4().hex
    cloud.node(1).kill()
    with ThreadPoolExecutor(1) as pool:
        creation = pool.submit(
            cloud.api.call, "POST", f"/v1/tenant/{tenant}/timeline", cloud.import_body(timeline)
        )
        cloud.wait(lambda: "will be retried" in cloud.log, "the creation to be under way")
        cloud.execute("UPDATE timeline_imports SET shard_history = '5'")
        status, answer = creation.result()
    assert status == 500 and f"timeline_id = {timeline}) makes no sense" in answer["msg"]
    assert cloud.api.ok("GET", "/control/v1/import") == []


def test_a_spoilt_record_of_a_finished_import(cloud: Cloud) -> None:
    tenant = cloud.create_tenant()
    timeline = cloud.create_import(tenant)
    cloud.report(tenant, timeline, {"Error": "no"})
    cloud.wait_told(timeline)
    cloud.execute("UPDATE finished_imports SET shard_statuses = '[]'")
    for status, answer in (
        cloud.fetch(tenant, timeline),
        cloud.report(tenant, timeline, "Done"),
        cloud.api.call("GET", f"/control/v1/tenant/{tenant}/timeline/{timeline}/import"),
        cloud.api.call("POST", f"/v1/tenant/{tenant}/timeline", cloud.import_body(timeline)),
    ):
        assert status == 500 and "row of finished_imports" in answer["msg"]
    other = cloud.create_import(tenant)
    cloud.report(tenant, other, "Done")
    assert cloud.wait_told(other) is None


def test_a_leader_of_no_time(cloud: Cloud) -> None:
    cloud.execute("UPDATE controllers SET started_at = 'infinity'")
    status, answer = cloud.api.call("GET", "/control/v1/leader")
    assert status == 500 and "row of controllers (address = " in answer["msg"]
