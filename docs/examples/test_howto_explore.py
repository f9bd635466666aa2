"""Code of docs/explore.md."""


def test_import_survives_every_crash(explore, neon_import):
    explore(neon_import(shards=2)).assert_survives_every_crash(budget=5)


def test_import_survives(replay, neon_import):
    replay(
        neon_import(shards=2),
        "at pageserver_1 > s3: put index 0002 #2, before: kill pageserver_1",
        "at storage_controller > postgres: commit update timeline_imports +1, after: kill storage_controller",
    )
