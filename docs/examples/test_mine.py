"""The example of README.md."""

from reattach.fixtures.imports.handle import after_job


def test_mine(neon_env_builder, import_bucket, control_plane):
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket, shard_count=2, hold=after_job(7))
    timeline.wait_at(after_job(7))  # every shard stands there, with job 7 done
    stopped_at = timeline.progress()  # per shard: jobs, completed, plan hash
    timeline.kill().start()  # kill -9 the pageserver, start it again
    timeline.wait_done().assert_resumed_from(stopped_at)
    assert control_plane.import_complete(timeline) == [None]  # told once, no error
    timeline.assert_equals(import_bucket)  # every page of every file
