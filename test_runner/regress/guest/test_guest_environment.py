"""The developer's own machine: variables, user, and where folders are do not decide how a test ends."""

from __future__ import annotations

import os

import pytest

from reattach.fixtures.vanilla_postgres import VanillaPostgres
from test_runner.regress.guest.project import Project

NOBODY = "http://127.0.0.1:9"

IMPORT = """
def test_it(neon_env_builder, import_bucket):
    timeline = neon_env_builder.init_start().start_import(import_bucket)
    timeline.wait_done(timeout=30)
    timeline.assert_equals(import_bucket)
"""

SQL = """
def test_sql(vanilla_pg):
    vanilla_pg.start()
    assert vanilla_pg.safe_psql_scalar("select now() - now()") is not None
    assert str(vanilla_pg.safe_psql("select now()")[0][0]).startswith("2")
"""

CLIENTS = """
from reattach.fixtures.remote_storage import RemoteStorageKind

def test_clients(mock_s3_client, mock_kms, bucket_server, neon_env_builder):
    assert "Buckets" in mock_s3_client.list_buckets()
    assert "Buckets" in bucket_server.client().list_buckets()
    assert "Keys" in mock_kms.list_keys()
    neon_env_builder.enable_pageserver_remote_storage(RemoteStorageKind.MOCK_S3)
    neon_env_builder.init_start()
"""

PROXIES = """
def test_proxies(neon_env_builder, storage_controller_proxy, compute_reconfigure_listener, port_distributor):
    neon_env_builder.storage_controller_port_override = storage_controller_proxy.port()
    neon_env_builder.control_plane_hooks_api = compute_reconfigure_listener.control_plane_hooks_api
    neon_env_builder.storage_controller_config["use_local_compute_notifications"] = False
    env = neon_env_builder.init_configs()
    port = port_distributor.get_port()
    env.storage_controller.start(instance_id=1, base_port=port)
    storage_controller_proxy.route_to(f"http://127.0.0.1:{port}")
    env.pageserver.start()
    told = []
    compute_reconfigure_listener.register_on_notify(told.append)
    env.create_tenant()
    assert told
"""

FAST_IMPORT = """
def test_fast_import(fast_import, vanilla_pg, mock_s3_server, mock_s3_client):
    mock_s3_client.create_bucket(Bucket="dumps")
    vanilla_pg.start()
    fast_import.set_aws_creds(mock_s3_server)
    fast_import.run_pgdata(source_connection_string=vanilla_pg.connstr(), s3prefix=None)
"""

AWS = {
    "AWS_ENDPOINT_URL": NOBODY,
    "AWS_ENDPOINT_URL_S3": NOBODY,
    "AWS_ENDPOINT_URL_KMS": NOBODY,
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    "AWS_S3_EXPRESS": "true",
    "AWS_CHECKSUM_ALGORITHM": "crc32c",
    "AWS_CONDITIONAL_PUT": "disabled",
    "AWS_SKIP_SIGNATURE": "true",
    "AWS_PROFILE": "work",
    "AWS_DEFAULT_PROFILE": "work",
    "AWS_CONFIG_FILE": "/nowhere",
    "AWS_CA_BUNDLE": "/nowhere",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_MAX_ATTEMPTS": "0",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "nonsense",
    "AWS_ACCESS_KEY_ID": "AKIAREAL",
    "AWS_SECRET_ACCESS_KEY": "real",
    "AWS_SESSION_TOKEN": "real",
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
}
PROXY = dict.fromkeys(
    ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"), NOBODY
)
PG = {
    "PGSERVICE": "work",
    "PGSERVICEFILE": "/nowhere",
    "PGSSLMODE": "verify-full",
    "PGSSLNEGOTIATION": "direct",
    "PGOPTIONS": "-c default_transaction_read_only=on",
    "PGTARGETSESSIONATTRS": "standby",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGCHANNELBINDING": "require",
    "PGHOSTADDR": "192.0.2.1",
    "PGHOST": "192.0.2.1",
    "PGPORT": "9",
    "PGUSER": "me",
    "PGDATABASE": "mine",
    "PGDATESTYLE": "German",
    "PGTZ": "nonsense",
    "PGCLIENTENCODING": "LATIN1",
    "PGDATA": "/nowhere",
    "PGCONNECT_TIMEOUT": "1",
}
OTHERS = {
    "LANG": "de_DE.UTF-8",
    "LC_ALL": "de_DE.UTF-8",
    "LANGUAGE": "de",
    "FAILPOINTS": "nonsense",
    "PYTHONWARNINGS": "error",
    "LD_LIBRARY_PATH": "/nowhere",
    "TZ": "Asia/Kathmandu",
}


STAY = """
def test_they_stay():
    assert {{name: os.environ.get(name) for name in {names!r}}} == {variables!r}
"""
"""They are hidden while the library connects, and for its own processes, not from the project's tests."""


@pytest.mark.parametrize("variables", [AWS | OTHERS, PROXY | PG], ids=["aws and others", "proxy and pg"])
def test_the_users_variables_do_not_matter(project: Project, variables: dict[str, str]) -> None:
    stay = "import os\n" + STAY.format(names=[*variables], variables=variables)
    tests = IMPORT + SQL + CLIENTS + PROXIES + FAST_IMPORT + stay
    project.write(test_it=tests).pytest(env=variables).assert_passed(6)


def test_nor_do_some_alone(project: Project) -> None:
    """Together one variable may hide what another does."""
    alone = {name: (AWS | PG)[name] for name in ("AWS_S3_EXPRESS", "PGDATESTYLE")}
    project.write(test_it=IMPORT).pytest(env=alone).assert_passed(1)


def test_a_server_of_ones_own_has_its_own_settings(project: Project, vanilla_pg: VanillaPostgres) -> None:
    """How it writes dates, and where it looks for tables."""
    vanilla_pg.configure(["datestyle = 'German'", "search_path = 'nowhere'", "timezone = 'Asia/Kathmandu'"])
    vanilla_pg.start()
    url = f"postgresql://postgres@127.0.0.1:{vanilla_pg.default_options['port']}/postgres"
    project.write(test_it=IMPORT).pytest(env={"DATABASE_URL": url}).assert_passed(1)
    assert vanilla_pg.safe_psql("select datname from pg_database where datname like 'reattach%'") == []


def test_a_large_environment(project: Project) -> None:
    """The kernel takes 128 KiB for a variable, and two MiB for all."""
    test = "def test_it(neon_simple_env):\n    assert neon_simple_env.pageserver.is_running()\n"
    payload = {f"PAYLOAD_{n}": "ü" * 60_000 for n in range(10)}
    project.write(test_it=test).pytest(env=payload).assert_passed(1)


@pytest.mark.skipif(os.geteuid() != 0, reason="about root")
@pytest.mark.parametrize(("mode", "umask"), [(0o755, 0o077), (0o700, 0o027)], ids=oct)
def test_root_where_only_root_may_go(project: Project, mode: int, umask: int) -> None:
    project.root.chmod(mode)
    programs = """
def test_programs(vanilla_pg, pg_bin, test_output_dir):
    vanilla_pg.start()
    pg_bin.run_capture(["pg_dump", vanilla_pg.connstr()])
    pg_bin.run_capture(["psql", vanilla_pg.connstr(), "-c", "select 1"])
    vanilla_pg.stop()
    pg_bin.run(["pg_resetwal", "-n", "-D", vanilla_pg.pgdatadir])

def test_endpoint(neon_env_builder, import_bucket):
    timeline = neon_env_builder.init_start().start_import(import_bucket)
    timeline.wait_done()
    with timeline.endpoint() as postgres:
        assert postgres.safe_psql_scalar("select count(*) from t") == import_bucket.rows
"""
    project.write(test_it=IMPORT + programs).pytest(umask=umask).assert_passed(3)


def test_any_path_will_do(project: Project) -> None:
    folder = Project(project.root / "Zürich, Z\\xfcrich" / "a\\b \t;'c\"d")
    folder.write(test_it=IMPORT).pytest().assert_passed(1)


def test_any_name_will_do(project: Project) -> None:
    """pytest writes what is not ASCII as backslashes, and a test's folder is called so."""
    names = ["Zürich a\\b \x07tab\tquote'\"", "a//b", ".."]
    test = IMPORT.replace(
        "def test_it(", f"import pytest\n\n@pytest.mark.parametrize('name', {names!r})\ndef test_it(name, "
    )
    project.write(test_it=test).pytest().assert_passed(len(names))
