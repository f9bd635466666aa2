"""The control plane, endpoints, settings. Each is a how-to in docs/how-to.md."""

from reattach.fixtures.control_plane import Upcall
from reattach.fixtures.imports.handle import after_job
from reattach.fixtures.neon_fixtures import PageserverImportConfig
from reattach.fixtures.remote_storage import s3_storage


def test_control_plane_that_refuses(neon_env_builder, import_bucket, control_plane):
    env = neon_env_builder.init_start()
    env.storage_controller.allowed_errors.append(".*Import complete notification failed.*")

    control_plane.answer([500, 503])
    timeline = env.start_import(import_bucket)

    timeline.wait_done()
    statuses = [call.status for call in control_plane.import_complete_calls]
    assert statuses == [500, 503, 200]
    assert control_plane.import_complete(timeline) == [None]


def test_control_plane_that_is_slow(neon_env_builder, import_bucket, control_plane):
    env = neon_env_builder.init_start()

    with control_plane.hold():
        timeline = env.start_import(import_bucket)
        control_plane.wait_arrived(Upcall.IMPORT_COMPLETE)
        timeline.kill_controller().start()

    timeline.wait_done()
    assert set(control_plane.import_complete(timeline)) == {None}


def test_sql_on_the_imported_data(neon_env_builder, import_bucket):
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket, shard_count=2)
    timeline.wait_done()

    with timeline.endpoint() as postgres:
        assert postgres.safe_psql_scalar("select count(*) from t") == import_bucket.rows
        postgres.safe_psql("create table mine (id int)")  # stays in the endpoint


def test_two_pageservers(neon_env_builder, import_bucket):
    neon_env_builder.num_pageservers = 2
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket, shard_count=4, hold=after_job(4))
    timeline.wait_at(after_job(4))
    stopped_at = timeline.progress()

    killed = timeline.kill(shard_number=1)
    timeline.release_all()
    killed.start()

    run = timeline.wait_done()
    for shard in run.shards:
        if shard.passes[0].node_id == killed.id:
            assert shard.resumed_from == stopped_at[shard.index].completed
        else:
            assert shard.interruptions == 0


def test_settings(neon_env_builder, import_bucket):
    neon_env_builder.pageserver_import_config = PageserverImportConfig(
        import_job_concurrency=2,
        import_job_soft_size_limit=1024 * 1024,
        import_job_checkpoint_threshold=1,
    )
    neon_env_builder.pageserver_config_override = "heatmap_upload_concurrency = 2"
    neon_env_builder.storage_controller_config = {"max_offline": "5s"}
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket)

    (shard,) = timeline.wait_done().shards
    assert shard.passes[0].checkpoints == tuple(range(1, shard.jobs + 1))


def test_settings_of_one_restart(neon_env_builder, import_bucket):
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket, hold=after_job(6))
    timeline.wait_at(after_job(6))
    pageserver = timeline.kill()

    config = PageserverImportConfig(import_job_concurrency=1)
    pageserver.patch_config_toml_nonrecursive(dict([config.to_config_key_value()]))
    pageserver.start(extra_env_vars={"RUST_LOG": "debug"})

    timeline.wait_done()


def test_remote_storage_in_s3(neon_env_builder, import_bucket):
    neon_env_builder.enable_pageserver_remote_storage(s3_storage())
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket, hold=after_job(8))
    timeline.wait_at(after_job(8))

    timeline.assert_durable()

    timeline.release_all()
    timeline.wait_done()


def test_only_where_failpoints_work(neon_env_builder, import_bucket):
    env = neon_env_builder.init_start()
    env.require("failpoints", "local_import")
    timeline = env.start_import(import_bucket, hold=after_job(1))
    timeline.wait_at(after_job(1))
    timeline.release_all()
    timeline.wait_done()
