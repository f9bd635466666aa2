"""An import whose pageserver is killed goes on after its last checkpoint."""

from reattach.fixtures.imports.handle import after_job


def test_import_survives_a_kill(neon_env_builder, import_bucket, control_plane):
    env = neon_env_builder.init_start()

    timeline = env.start_import(import_bucket, shard_count=2, hold=after_job(7))
    timeline.wait_at(after_job(7))
    stopped_at = timeline.progress()

    timeline.kill().start()

    run = timeline.wait_done()
    run.assert_resumed_from(stopped_at)
    assert control_plane.import_complete(timeline) == [None]
    timeline.assert_equals(import_bucket)
