"""Ways to interrupt an import. Each is a how-to in docs/how-to.md."""

from reattach.fixtures.imports.handle import BEFORE_DONE, after_job
from reattach.fixtures.neon_fixtures import PageserverImportConfig


def test_detach_and_attach(neon_env_builder, import_bucket, control_plane):
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket, shard_count=4, hold=after_job(6))
    timeline.wait_at(after_job(6))
    stopped_at = timeline.progress()

    timeline.detach()
    timeline.release_all()
    timeline.attach()

    timeline.wait_done().assert_resumed_from(stopped_at)
    assert control_plane.import_complete(timeline) == [None]


def test_detach_by_attach_hook(neon_env_builder, import_bucket):
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket, hold=after_job(6))
    timeline.wait_at(after_job(6))
    stopped_at = timeline.progress()

    timeline.detach_by_hook()
    timeline.release_all()
    timeline.attach_by_hook()

    timeline.wait_done().assert_resumed_from(stopped_at)


def test_kill_at_a_checkpoint(neon_env_builder, import_bucket):
    neon_env_builder.pageserver_import_config = PageserverImportConfig(
        import_job_concurrency=4,
        import_job_soft_size_limit=512 * 1024,
        import_job_checkpoint_threshold=4,
    )
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket, hold=after_job(8))
    timeline.wait_at(after_job(8))
    assert timeline.progress()[0].completed == 8
    timeline.assert_durable()

    timeline.kill().start()

    run = timeline.wait_done()
    assert run.shards[0].resumed_from == 8
    assert run.shards[0].first_job == 9
    assert len(run.shards[0].ran_twice) <= 12


def test_kill_twice(neon_env_builder, import_bucket):
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket, hold=after_job(6))
    timeline.wait_at(after_job(6))

    timeline.restart_killed(hold=after_job(10))
    timeline.wait_at(after_job(10))
    stopped_at = timeline.progress()
    timeline.kill().start()

    run = timeline.wait_done()
    run.assert_resumed_from(stopped_at)
    assert run.interruptions == 2


def test_kill_the_controller(neon_env_builder, import_bucket, control_plane):
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket, shard_count=2, hold=BEFORE_DONE)
    timeline.wait_at(BEFORE_DONE)

    controller = timeline.kill_controller()
    timeline.release(BEFORE_DONE)
    controller.start()

    assert timeline.wait_done().ran_twice == 0
    assert control_plane.import_complete(timeline) == [None]


def test_migrate_to_another_pageserver(neon_env_builder, import_bucket):
    neon_env_builder.num_pageservers = 2
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket, hold=after_job(6))
    timeline.wait_at(after_job(6))
    stopped_at = timeline.progress()
    origin = timeline.pageserver_of(0)
    target = next(p for p in env.pageservers if p is not origin)

    timeline.migrate(0, target)
    assert timeline.pageserver_of(0) is target

    run = timeline.wait_done()
    run.assert_resumed_from(stopped_at)
    assert {one.node_id for one in run.shards[0].passes} == {origin.id, target.id}
    timeline.assert_equals(import_bucket)


def test_delete_while_importing(neon_env_builder, import_bucket, control_plane):
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket, shard_count=2, hold=after_job(6))
    timeline.wait_at(after_job(6))

    timeline.delete()

    timeline.assert_gone()
    assert control_plane.import_complete(timeline) == []
