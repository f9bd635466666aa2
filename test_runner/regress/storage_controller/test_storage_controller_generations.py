"""The last generation: nobody is given one that does not exist, and nobody else is in trouble for it."""

from __future__ import annotations

import pytest

from test_runner.regress.storage_controller.cloud import Cloud

LAST = 2**31 - 1


@pytest.mark.parametrize("generation", [LAST, LAST - 1, 2**30 + 1, 2**31, 2**32, 2**64, -1])
def test_too_high_to_be_given(cloud: Cloud, generation: int) -> None:
    """There must be enough left for all that follow."""
    tenant = cloud.create_tenant()
    before = cloud.issued(tenant)
    hook = {"tenant_shard_id": tenant, "node_id": 1, "generation_override": generation}
    location = {"mode": "AttachedSingle", "generation": generation, "tenant_conf": {}}
    for method, path, body in (
        ("POST", "/debug/v1/attach-hook", hook),
        ("POST", "/v1/tenant", {"new_tenant_id": "ab" * 16, "generation": generation}),
        ("PUT", f"/v1/tenant/{'cd' * 16}/location_config", location),
        ("PUT", f"/v1/tenant/{tenant}/location_config", location),
    ):
        assert cloud.api.call(method, path, body)[0] == 400, path
    assert cloud.issued(tenant) == before
    assert cloud.query("SELECT count(*) FROM tenant_shards") == [(1,)]


def test_none_left(cloud: Cloud) -> None:
    """The shard is named and waits; the controller, its restart and the other shards do not care."""
    tenant, other = cloud.create_tenant(), cloud.create_tenant()
    cloud.kill_controller()
    cloud.execute("UPDATE tenant_shards SET generation = %s WHERE tenant_id = %s", LAST, tenant)
    cloud.start_controller()
    sentence = f"shard {tenant} has no generation left"
    cloud.wait(lambda: sentence in cloud.log, "the shard to be named")
    given = cloud.api.ok("POST", "/upcall/v1/re-attach", {"node_id": 1})["tenants"]
    assert [t["id"] for t in given] == [other]
    assert f"Not attached again: {sentence}" in cloud.log
    hook = cloud.api.call("POST", "/debug/v1/attach-hook", {"tenant_shard_id": tenant, "node_id": 1})
    assert hook[0] == 404 and sentence in hook[1]["msg"]
    timeline = cloud.wait(lambda: cloud.create_import(other), "the other shard to be attached again")
    cloud.report(other, timeline, "Done")
    assert cloud.wait_told(timeline) is None
    assert cloud.issued(tenant)[0] == LAST
