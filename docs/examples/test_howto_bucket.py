"""Import buckets of one's own, and buckets that misbehave. Each is a how-to in docs/how-to.md."""

from reattach.api.bucket import Operation
from reattach.fixtures.imports.bucket import S3ImportBucket, SourceCluster
from reattach.fixtures.imports.handle import after_job


def test_faults_on_one_object(neon_env_builder, import_bucket, bucket_faults):
    env = neon_env_builder.init_start()
    key = f"{import_bucket.prefix}/{import_bucket.largest_relation_file()}"

    bucket_faults.on(Operation.GET_OBJECT, key=key, times=2).slow_down(retry_after=0)
    bucket_faults.on(Operation.GET_OBJECT, key=key, nth=3).truncate(1000)
    timeline = env.start_import(import_bucket)

    timeline.wait_done()
    timeline.assert_equals(import_bucket)


def test_stand_at_a_gate(neon_env_builder, import_bucket, bucket_faults):
    env = neon_env_builder.init_start()
    key = f"{import_bucket.prefix}/{import_bucket.largest_relation_file()}"

    gate = bucket_faults.gate(Operation.GET_OBJECT, key=key)
    timeline = env.start_import(import_bucket)
    gate.wait_until_held()
    timeline.kill()
    gate.open()
    env.pageserver.start()

    assert timeline.wait_done().interruptions == 1


def test_nothing_recorded_is_read_again(neon_env_builder, import_bucket, bucket_server):
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket, hold=after_job(8))
    timeline.wait_at(after_job(8))
    timeline.kill()
    before = import_bucket.relation_reads()
    mark = bucket_server.log.mark()

    env.pageserver.start()
    run = timeline.wait_done()

    after = import_bucket.relation_reads().where(since=mark)
    read_twice = sum(end - start for ranges in after.read_again(before).values() for start, end in ranges)
    bytes_of_a_job = env.pageserver_import_config.import_job_soft_size_limit
    assert read_twice <= run.ran_twice * bytes_of_a_job


def test_changed_bucket(neon_env_builder, import_bucket, control_plane):
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket, hold=after_job(6))
    timeline.wait_at(after_job(6))
    timeline.kill()

    name = import_bucket.largest_relation_file()
    content = import_bucket.get(name)
    import_bucket.put(name, content[:-1] + bytes([content[-1] ^ 1]))
    env.pageserver.allowed_errors.append(".*task failed: Import plan does not match.*")
    env.storage_controller.allowed_errors.append(".*Timeline import completed with shard errors.*")
    env.pageserver.start()

    error = timeline.wait_failed()
    assert name.removeprefix("pgdata/") in error
    assert control_plane.import_complete(timeline) == [error]


def test_own_data_directory(neon_env_builder, vanilla_pg, bucket_server, pg_version, test_output_dir):
    vanilla_pg.start()
    vanilla_pg.safe_psql("create table fruit as select generate_series(1, 50000) as id, 'apple' as name")
    vanilla_pg.stop()
    source = SourceCluster(vanilla_pg.pgdatadir, int(pg_version), rows=50000)
    bucket = S3ImportBucket.fill(source, bucket_server, "import", test_output_dir.name)

    env = neon_env_builder.init_start()
    timeline = env.start_import(bucket, shard_count=2)

    timeline.wait_done()
    timeline.assert_equals(bucket)
    with timeline.endpoint() as postgres:
        assert postgres.safe_psql_scalar("select count(*) from fruit") == 50000


def test_local_directory(neon_env_builder, local_import_bucket):
    env = neon_env_builder.init_start()
    timeline = env.start_import(local_import_bucket)

    timeline.wait_done()
    timeline.assert_equals(local_import_bucket)
