"""The database is what its URL says, whatever the environment and the server's settings say."""

from __future__ import annotations

import re

import pytest
from psycopg.conninfo import make_conninfo

from test_runner.regress.storage_controller.cloud import Cloud
from test_runner.regress.storage_controller.conftest import MakeCloud

VARIABLES = {
    "PGSERVICE": "work",
    "PGSERVICEFILE": "/nonexistent",
    "PGSYSCONFDIR": "/nonexistent",
    "PGHOST": "192.0.2.1",
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "1",
    "PGDATABASE": "work",
    "PGUSER": "me",
    "PGPASSWORD": "secret",
    "PGPASSFILE": "/nonexistent",
    "PGSSLMODE": "verify-full",
    "PGSSLNEGOTIATION": "direct",
    "PGSSLROOTCERT": "/nonexistent",
    "PGSSLCERT": "/nonexistent",
    "PGGSSENCMODE": "require",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGCHANNELBINDING": "require",
    "PGTARGETSESSIONATTRS": "standby",
    "PGOPTIONS": "-c default_transaction_read_only=on -c search_path=nowhere",
    "PGDATESTYLE": "German",
    "PGTZ": "Asia/Kathmandu",
    "PGCLIENTENCODING": "LATIN1",
    "PGCONNECT_TIMEOUT": "nonsense",
    "PGAPPNAME": "mine",
}

SETTINGS = {
    "datestyle": "'German'",
    "timezone": "'Asia/Kathmandu'",
    "search_path": "nowhere",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "'read committed'",
    "default_transaction_deferrable": "on",
    "client_encoding": "'LATIN1'",
    "standard_conforming_strings": "off",
    "synchronous_commit": "off",
    "enable_indexscan": "off",
}


def imports_work(cloud: Cloud) -> None:
    """An import from its creation to its end, across a restart, with its times as they should be."""
    tenant = cloud.create_tenant(shards=2)
    timeline = cloud.create_import(tenant, key="schlüssel")
    cloud.restart_controller()
    cloud.wait_active(*cloud.nodes)
    first, second = cloud.shards(tenant)
    assert cloud.report(first, timeline, "Done") == (200, None)
    seen = cloud.api.ok("GET", f"/control/v1/tenant/{tenant}/timeline/{timeline}/import")
    times = [seen["created_at"], seen["last_change"], *(shard["last_change"] for shard in seen["shards"])]
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time) for time in times), times
    assert seen["created_at"] <= seen["last_change"]
    assert re.fullmatch(r"20\d\d-.*Z", cloud.api.ok("GET", "/control/v1/leader")["started_at"])
    assert cloud.report(second, timeline, "Done") == (200, None)
    assert cloud.wait_told(timeline) is None


def test_variables_of_libpq(make_cloud: MakeCloud) -> None:
    cloud = make_cloud(environment=VARIABLES)
    assert f"{', '.join(sorted(VARIABLES))}: without effect here" in cloud.log
    assert "secret" not in cloud.log
    imports_work(cloud)


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_of_libpq(make_cloud: MakeCloud, name: str) -> None:
    make_cloud(nodes=0, environment={name: VARIABLES[name]}).api.ok("GET", "/control/v1/leader")


def test_settings_of_the_database(cloud: Cloud) -> None:
    """I4, I7: also not how long what was committed lasts."""
    name = cloud.query("SELECT current_database()")[0][0]
    for setting, value in SETTINGS.items():
        cloud.execute(f'ALTER DATABASE "{name}" SET {setting} = {value}')
    cloud.restart_controller()
    cloud.wait_active(*cloud.nodes)
    imports_work(cloud)


def test_what_the_urls_options_say_stays(cloud: Cloud) -> None:
    """A schema of the user's choice; what transactions rest on is not theirs to choose."""
    cloud.kill_controller()
    cloud.execute("CREATE SCHEMA mine")
    options = "-c search_path=mine -c default_transaction_isolation=read\\ committed"
    cloud.environment["DATABASE_URL"] = make_conninfo(cloud.database.url, options=options)
    cloud.names_database = False
    cloud.start_controller()
    cloud.api.ok("POST", "/v1/tenant", {"new_tenant_id": "ab" * 16, "placement_policy": "Detached"})
    assert cloud.query("SELECT count(*) FROM mine.tenant_shards") == [(1,)]
    assert cloud.query("SELECT count(*) FROM public.tenant_shards") == [(0,)]


@pytest.mark.parametrize("url", ["nonsense", "postgresql://x:secret@[/y", "host=127.0.0.1 nonsense=secret"])
def test_a_url_that_is_none(cloud: Cloud, url: str) -> None:
    """Said in one sentence, without what may be a password."""
    cloud.kill_controller()
    cloud.environment["DATABASE_URL"] = url
    cloud.names_database = False
    process = cloud.launch_controller()
    assert process.wait(10) == 1
    assert "ERROR Cannot start: the database URL is neither" in cloud.log
    assert "secret" not in cloud.log and "Traceback" not in cloud.log
