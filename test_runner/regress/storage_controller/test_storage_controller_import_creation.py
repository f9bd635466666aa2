"""How imports begin."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from test_runner.regress.storage_controller.api import Refused
from test_runner.regress.storage_controller.cloud import Cloud
from test_runner.regress.storage_controller.conftest import MakeCloud
from test_runner.regress.storage_controller.fake_pageserver import Fault
from test_runner.regress.storage_controller.steps import (
    NOTHING_YET,
    migrate,
    progress,
)


def test_status_is_there_before_the_timeline(cloud: Cloud) -> None:
    """Trap 13: no pageserver ever asks for an import that is not recorded."""
    tenant = cloud.create_tenant()
    timeline = uuid.uuid4().hex
    gate = cloud.node(1).hold(r"POST .*/timeline$")
    with ThreadPoolExecutor(1) as pool:
        creation = pool.submit(cloud.create_import, tenant, timeline)
        cloud.wait(lambda: cloud.node(1).calls(r"POST .*/timeline$"), "the pageserver to be asked")
        assert cloud.fetch(tenant, timeline) == (200, NOTHING_YET)
        gate.set()
        creation.result()


def test_create_is_idempotent(cloud: Cloud) -> None:
    """Trap 15: the same creation again succeeds; another one of the same timeline conflicts."""
    tenant = cloud.create_tenant(shards=2)
    timeline = cloud.create_import(tenant)
    cloud.report(cloud.shards(tenant)[0], timeline, progress(3))
    path, body = f"/v1/tenant/{tenant}/timeline", cloud.import_body(timeline)
    assert cloud.api.call("POST", path, body)[0] == 201
    assert cloud.api.call("POST", path, cloud.import_body(timeline, "other key"))[0] == 409
    assert cloud.statuses(tenant, timeline) == {"0002": progress(3), "0102": NOTHING_YET}


def test_create_again_after_the_end(cloud: Cloud) -> None:
    """A repeated creation of what is finished starts nothing that nobody would ever end (I10)."""
    tenant = cloud.create_tenant()
    timeline = cloud.create_import(tenant)
    cloud.report(tenant, timeline, "Done")
    cloud.wait_told(timeline)
    path = f"/v1/tenant/{tenant}/timeline"
    assert cloud.api.call("POST", path, cloud.import_body(timeline))[0] == 201
    assert cloud.api.call("POST", path, cloud.import_body(timeline, "other key"))[0] == 409
    assert cloud.statuses(tenant, timeline) is None
    assert cloud.told(timeline) == [None]


def test_two_creations_at_once(cloud: Cloud) -> None:
    """Both succeed, and there is one import."""
    tenant = cloud.create_tenant(shards=2)
    timelines = [uuid.uuid4().hex for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda t: cloud.create_import(tenant, t), timelines * 2))) == 8
    assert len(cloud.query("SELECT 1 FROM timeline_imports")) == 4


def test_creation_goes_on_without_its_client(make_cloud: MakeCloud) -> None:
    """I10, trap 14: killed after the row, before any pageserver knew: nobody repeats it, yet it ends."""
    cloud = make_cloud(runs_imports=True)
    tenant = cloud.create_tenant(shards=2)
    timeline = uuid.uuid4().hex
    cloud.failpoint("storcon-write-insert-import-post", "exit")
    with pytest.raises(Exception, match="timeline"):
        cloud.create_import(tenant, timeline)
    assert cloud.node(1).calls(r"POST .*/timeline$") == []
    cloud.start_controller()
    assert cloud.wait_told(timeline) is None


def test_creation_follows_a_shard_that_moves(make_cloud: MakeCloud) -> None:
    """Trap 14: the attachment changes while a pageserver creates; the timeline is on the new one too."""
    cloud = make_cloud(nodes=2, runs_imports=True)
    tenant = cloud.create_tenant()
    origin = cloud.issued(tenant)[1]
    assert origin is not None
    gate = cloud.node(origin).hold(r"POST .*/timeline$")
    timeline = uuid.uuid4().hex
    with ThreadPoolExecutor(1) as pool:
        creation = pool.submit(cloud.create_import, tenant, timeline)
        cloud.wait(lambda: cloud.node(origin).calls(r"POST .*/timeline$"), "the pageserver to be asked")
        # The origin dies for everybody but the one call that it still answers.
        stale = cloud.node(origin).attached[tenant]
        migrate(cloud, tenant, 3 - origin)
        cloud.node(origin).attached[tenant] = stale
        gate.set()
        creation.result()
    assert cloud.wait_told(timeline) is None
    assert cloud.remote.timelines(tenant)[timeline].imported


def test_a_refused_creation_leaves_nothing(cloud: Cloud) -> None:
    """I9: one shard's pageserver refuses; the other's timeline and the row are gone when the client hears."""
    tenant = cloud.create_tenant(shards=2)
    first, second = cloud.shards(tenant)
    cloud.node(1).inject(Fault(rf"POST .*{second}/timeline$", 406))
    timeline = uuid.uuid4().hex
    with pytest.raises(Refused) as refusal:
        cloud.create_import(tenant, timeline)
    assert refusal.value.status == 409
    assert "406 Not Acceptable" in str(refusal.value.msg)
    assert cloud.statuses(tenant, timeline) is None
    assert cloud.remote.timelines(first) == {}


def test_a_refused_creation_leaves_nothing_on_those_who_were_asked_with_it(make_cloud: MakeCloud) -> None:
    """I9, I10: siblings that took it beside the one that refused lose it too; else a repeated creation would
    find them there, and wait for ever for reports that they have made already.
    """
    cloud = make_cloud(runs_imports=True)
    tenant = cloud.create_tenant(shards=4)
    shards = cloud.shards(tenant)
    cloud.node(1).inject(Fault(rf"POST .*{shards[2]}/timeline$", 409, times=1))
    timeline = uuid.uuid4().hex
    with pytest.raises(Refused):
        cloud.create_import(tenant, timeline)
    assert {str(shard): cloud.remote.timelines(shard) for shard in shards} == {str(s): {} for s in shards}
    cloud.create_import(tenant, timeline)
    assert cloud.wait_told(timeline) is None


@pytest.mark.parametrize("status", [503, 500, 404, None])
def test_creation_outlasts_a_pageserver_in_trouble(make_cloud: MakeCloud, status: int | None) -> None:
    """I10: what may pass is tried again."""
    cloud = make_cloud(runs_imports=True)
    tenant = cloud.create_tenant(shards=2)
    cloud.node(1).inject(Fault(r"POST .*/timeline$", status, times=3))
    timeline = cloud.create_import(tenant)
    assert cloud.wait_told(timeline) is None


def test_create_needs_an_attached_tenant(cloud: Cloud) -> None:
    """Trap 28: 404 for an unknown tenant; 409 for a detached one, before and after a restart."""
    tenant = cloud.create_tenant()
    timeline = uuid.uuid4().hex
    with pytest.raises(Refused, match=r"404.*Tenant not found"):
        cloud.create_import(uuid.uuid4().hex, timeline)
    cloud.set_policy(tenant, "Detached")
    cloud.wait_idle()
    for _ in range(2):
        with pytest.raises(Refused, match=f"409.*Shard {tenant} tenant has policy Detached"):
            cloud.create_import(tenant, timeline)
        cloud.restart_controller()
    assert cloud.statuses(tenant, timeline) is None
