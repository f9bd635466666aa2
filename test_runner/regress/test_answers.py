"""The answers as parsed JSON have the keys that their types declare."""

from __future__ import annotations

from collections.abc import Mapping

from reattach.fixtures.common_types import TenantShardId
from reattach.fixtures.imports.bucket import ImportBucket
from reattach.fixtures.neon_fixtures import NeonEnvBuilder
from reattach.fixtures.pageserver import answers as pageserver
from reattach.fixtures.remote_storage import LocalFsStorage, RemoteStorageKind
from reattach.fixtures.storage_controller import answers as controller


def assert_declared(answer: Mapping[str, object] | None, declared: type) -> None:
    assert answer is not None
    annotations = {key: str(value) for key, value in declared.__annotations__.items()}
    required = {key for key, text in annotations.items() if "NotRequired[" not in text}
    assert required <= answer.keys() <= annotations.keys(), declared.__name__


def test_answers_have_the_declared_keys(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket
) -> None:
    neon_env_builder.enable_pageserver_remote_storage(RemoteStorageKind.LOCAL_FS)
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket)
    timeline.wait_done()
    tenant, timeline_id = timeline.tenant_id, timeline.timeline_id
    client, cloud = env.pageserver.http_client(), env.storage_controller

    status = client.tenant_status(tenant)
    assert_declared(status, pageserver.TenantDetailAnswer)
    assert_declared(status["state"], pageserver.TenantStateAnswer)
    for listed in client.tenant_list():
        assert_declared(listed, pageserver.TenantAnswer)
    detail = client.timeline_detail(tenant, timeline_id)
    assert_declared(detail, pageserver.TimelineAnswer)
    assert_declared(client.tenant_get_location(tenant), pageserver.LocationAnswer)
    assert_declared(client.utilization(), pageserver.UtilizationAnswer)
    assert_declared(client.timeline_gc(tenant, timeline_id, 0), pageserver.GcAnswer)
    layers = client.timeline_layer_map_info(tenant, timeline_id)["historic_layers"]
    assert layers
    for layer in layers:
        assert_declared(layer, pageserver.HistoricLayerAnswer)
        assert_declared(layer["access_stats"], pageserver.AccessStatsAnswer)
    client.tenant_heatmap_upload(tenant)
    storage = env.pageserver_remote_storage
    assert isinstance(storage, LocalFsStorage)
    heatmap = storage.heatmap_content(tenant)
    assert_declared(heatmap, pageserver.HeatmapAnswer)
    assert_declared(heatmap["timelines"][0], pageserver.HeatmapTimelineAnswer)
    assert_declared(heatmap["timelines"][0]["layers"][0], pageserver.HeatmapLayerAnswer)
    assert len(storage.index_content(tenant, timeline_id)["layer_metadata"]) == len(layers)
    conf = env.pageserver.read_tenant_location_conf(tenant)
    assert_declared(conf, pageserver.LocationFileAnswer)
    assert_declared(conf["mode"]["Attached"], pageserver.AttachedModeAnswer)

    assert_declared(cloud.node_status(env.pageserver.id), controller.NodeAnswer)
    assert_declared(cloud.tenant_describe(tenant), controller.TenantAnswer)
    assert_declared(cloud.locate(tenant)[0], controller.ShardLocationAnswer)
    placement = cloud.get_tenants_placement()[str(TenantShardId(tenant, 0, 0))]
    assert placement["observed"] == placement["intent"] == {"attached": env.pageserver.id, "secondary": []}
    for shard in cloud.tenant_shard_dump():
        assert shard["intent"].keys() >= {"attached", "secondary"}
        assert list(shard["observed"]["locations"]) == [str(env.pageserver.id)]
