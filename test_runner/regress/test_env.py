"""The environment: starting, stopping, killing, and what it says of itself."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from reattach.api.import_status import ShardImportStatus
from reattach.fixtures.common_types import TenantId, TenantShardId, TimelineId
from reattach.fixtures.env.builder import NeonEnvBuilder
from reattach.fixtures.env.env import NeonEnv
from reattach.fixtures.http_probe import probe
from reattach.fixtures.pageserver.http import PageserverApiException
from reattach.fixtures.processes import ProcessDied, ProcessError, WaitTimeout
from reattach.fixtures.storage_controller.types import PageserverAvailability, StorageControllerApiException
from reattach.fixtures.unsupported import Unsupported
from reattach.fixtures.utils import run_only_on_default_postgres
from reattach.fixtures.waiting import wait_until

pytestmark = run_only_on_default_postgres("the version is of no importance here")


def test_ready_environment(neon_simple_env: NeonEnv) -> None:
    env = neon_simple_env
    assert env.storage_controller.ready()
    assert env.pageserver.http_client().node_id() == env.pageserver.id
    assert env.storage_controller.node(env.pageserver.id).availability == PageserverAvailability.ACTIVE
    (location,) = env.storage_controller.locations(env.initial_tenant)
    assert location.node_id == env.pageserver.id
    assert env.storage_controller.inspect(env.initial_tenant) == (1, env.pageserver.id)
    assert env.get_tenant_pageserver(env.initial_tenant) is env.pageserver
    env.storage_controller.consistency_check()


def test_state_is_the_process(neon_simple_env: NeonEnv) -> None:
    """A server that was killed behind the library's back does not count as running."""
    pageserver = neon_simple_env.pageserver
    assert pageserver.running
    assert pageserver.process is not None
    pageserver.process.send_signal(signal.SIGKILL)
    assert pageserver.wait_exit() == -signal.SIGKILL
    assert not pageserver.running
    pageserver.stop()
    with pytest.raises(ProcessError, match="pageserver 1 is down since this test saw it end"):
        _ = pageserver.pid


@pytest.mark.parametrize("how", ["stop", "stop immediately", "kill"])
def test_pageserver_stops_and_starts(neon_simple_env: NeonEnv, how: str) -> None:
    env = neon_simple_env
    pid = env.pageserver.pid
    if how == "kill":
        env.pageserver.kill()
    else:
        assert env.pageserver.stop(immediate=how == "stop immediately") is env.pageserver
    assert not env.pageserver.running
    assert probe(env.pageserver.service_port.http, "/v1/status") is None
    env.pageserver.stop()  # nothing to do

    assert env.pageserver.start() is env.pageserver
    assert env.pageserver.pid != pid
    assert env.storage_controller.node(1).availability == PageserverAvailability.ACTIVE
    env.pageserver.quiesce_tenants()
    (tenant,) = env.pageserver.http_client().tenant_list()
    assert tenant["id"] == str(env.initial_tenant) and tenant["generation"] == 2


@pytest.mark.parametrize("how", ["stop", "stop immediately", "kill"])
def test_controller_stops_and_starts(neon_simple_env: NeonEnv, how: str) -> None:
    env = neon_simple_env
    controller = env.storage_controller
    if how == "kill":
        controller.kill()
    else:
        controller.stop(immediate=how == "stop immediately")
    assert not controller.running and not controller.ready()
    controller.start()
    wait_until(lambda: controller.consistency_check(), name="consistency")
    assert controller.inspect(env.initial_tenant) == (1, 1)


def test_starting_twice_is_a_mistake(neon_simple_env: NeonEnv) -> None:
    with pytest.raises(ProcessError, match="pageserver_1 runs already"):
        neon_simple_env.pageserver.start()


def test_restart_waits_for_tenants(neon_simple_env: NeonEnv) -> None:
    neon_simple_env.pageserver.restart(immediate=True)
    (tenant,) = neon_simple_env.pageserver.http_client().tenant_list()
    assert tenant["state"]["slug"] == "Active"


def test_a_death_ends_every_wait(neon_simple_env: NeonEnv) -> None:
    pageserver = neon_simple_env.pageserver
    assert pageserver.process is not None
    pageserver.process.send_signal(signal.SIGKILL)

    def never() -> None:
        raise AssertionError("not yet")

    with pytest.raises(ProcessDied, match=r"pageserver_1 \(pid \d+\) was killed by SIGKILL"):
        wait_until(never, timeout=60)
    pageserver.wait_exit()  # this test expects it


def test_a_server_that_cannot_start_says_why(neon_env_builder: NeonEnvBuilder) -> None:
    env = neon_env_builder.init_configs()
    env.storage_controller.start()
    env.pageserver.edit_config_toml(lambda config: config.pop("control_plane_api"))
    with pytest.raises(ProcessDied, match="control_plane_api"):
        env.pageserver.start()
    assert not env.pageserver.running
    env.pageserver.allowed_errors.append(".*")


def test_a_pageserver_without_a_controller_is_not_ready(neon_env_builder: NeonEnvBuilder) -> None:
    env = neon_env_builder.init_configs()
    with pytest.raises(WaitTimeout, match="pageserver_1 to answer"):
        env.pageserver.start(timeout_in_seconds=0.5)
    assert not env.pageserver.running


def test_persistent_failpoints_come_back_at_each_start(neon_simple_env: NeonEnv) -> None:
    """Two of them, which need the right separator."""
    pageserver = neon_simple_env.pageserver
    pageserver.add_persistent_failpoint("attach-before-activate", "print(1)")
    pageserver.add_persistent_failpoint("before-upload-manifest", "1*off->print(2)")
    cursor = pageserver.log_cursor()
    pageserver.restart()
    pageserver.wait_log_contains(r"cfg failpoint: attach-before-activate print\(1\)", cursor)
    pageserver.wait_log_contains(r"cfg failpoint: before-upload-manifest 1\*off->print\(2\)", cursor)


def test_patched_config_can_be_put_back(neon_env_builder: NeonEnvBuilder) -> None:
    env = neon_env_builder.init_configs()
    patch = {"availability_zone": "x", "disk_usage_based_eviction": {"enabled": False}}
    before = env.pageserver.patch_config_toml_nonrecursive(patch)
    assert patch.keys() == before.keys(), "the caller's dict is its own"
    assert before == {"availability_zone": "us-east-2a", "disk_usage_based_eviction": None}
    assert env.pageserver.patch_config_toml_nonrecursive(before) == patch
    restored = env.pageserver.edit_config_toml(dict)
    assert "disk_usage_based_eviction" not in restored


def test_several_pageservers_in_zones(neon_env_builder: NeonEnvBuilder) -> None:
    neon_env_builder.num_pageservers = 3
    neon_env_builder.num_azs = 3
    env = neon_env_builder.init_start(initial_tenant_shard_count=4)
    zones = {node["id"]: node["availability_zone_id"] for node in env.storage_controller.node_list()}
    assert zones == {1: "us-east-2a", 2: "us-east-2b", 3: "us-east-2c"}
    locations = env.storage_controller.locations(env.initial_tenant)
    assert [loc.shard_id for loc in locations] == [TenantShardId(env.initial_tenant, i, 4) for i in range(4)]
    with pytest.raises(AssertionError, match="3 pageservers"):
        _ = env.pageserver
    with pytest.raises(LookupError, match="no pageserver 9"):
        env.get_pageserver(9)
    placements = env.storage_controller.placements()
    assert {shard: p.observed.attached for shard, p in placements.items()} == {
        loc.shard_id: loc.node_id for loc in locations
    }


def test_two_environments_at_once(neon_env_builder: NeonEnvBuilder) -> None:
    """They share database server and control plane, and nothing else."""
    other_builder = NeonEnvBuilder(
        neon_env_builder.resources,
        repo_dir=neon_env_builder.test_output_dir / "other",
        test_output_dir=neon_env_builder.test_output_dir,
        test_name=neon_env_builder.test_name,
        node_id=neon_env_builder.node_id,
        run_id=neon_env_builder.run_id,
        pg_version=neon_env_builder.pg_version,
        pg_distrib_dir=neon_env_builder.pg_distrib_dir,
    )
    env = neon_env_builder.init_start()
    with other_builder:
        other = other_builder.init_start()
        assert env.repo_dir != other.repo_dir
        assert env.storage_controller.database_url != other.storage_controller.database_url
        ports = [
            port
            for e in (env, other)
            for port in (
                e.storage_controller_port,
                e.pageserver.service_port.http,
                e.pageserver.service_port.pg,
            )
        ]
        assert len(set(ports)) == 6
        with pytest.raises(StorageControllerApiException) as unknown:
            other.storage_controller.describe(env.initial_tenant)
        assert unknown.value.status_code == 404
    assert env.pageserver.running and not other.pageserver.running


def test_detach_and_attach_through_the_policy(neon_simple_env: NeonEnv) -> None:
    env, controller = neon_simple_env, neon_simple_env.storage_controller
    controller.tenant_policy_update(env.initial_tenant, {"placement": "Detached"})
    controller.reconcile_until_idle()
    assert env.pageserver.http_client().locations() == {}
    controller.tenant_policy_update(env.initial_tenant, {"placement": {"Attached": 0}})
    controller.reconcile_until_idle()
    assert controller.inspect(env.initial_tenant) == (2, 1)


def test_attach_hook(neon_simple_env: NeonEnv) -> None:
    env = neon_simple_env
    env.pageserver.tenant_detach(env.initial_tenant)
    assert not env.pageserver.tenant_dir(env.initial_tenant).exists()
    env.pageserver.tenant_attach(env.initial_tenant)
    conf = env.pageserver.read_tenant_location_conf(env.initial_tenant)
    assert conf["mode"]["Attached"]["generation"] == 2


def test_initial_timeline_is_made_when_it_is_used(neon_simple_env: NeonEnv) -> None:
    env = neon_simple_env
    client = env.pageserver.http_client()
    assert client.timeline_list(env.initial_tenant) == []
    timeline = env.initial_timeline
    info = client.timeline_info(env.initial_tenant, timeline)
    assert info.state == "Active" and info.pg_version == int(env.pg_version)
    assert env.timeline_of_branch("main") == timeline == env.initial_timeline
    assert env.storage_controller.import_rows.all() == []
    assert env.pageserver_remote_storage is not None
    index = env.pageserver_remote_storage.index_part(env.initial_tenant, timeline)
    assert index.import_state == "Done" and index.layer_metadata


def test_create_tenant_and_timeline(neon_simple_env: NeonEnv) -> None:
    env = neon_simple_env
    tenant, timeline = env.create_tenant(shard_count=2)
    second = env.create_timeline("second", tenant)
    assert env.neon_cli.timeline_list(tenant) == [("main", timeline), ("second", second)]
    for shard in (0, 1):
        listed = env.pageserver.http_client().timeline_list(TenantShardId(tenant, shard, 2))
        assert {t["timeline_id"] for t in listed} == {str(timeline), str(second)}


def test_error_answers_are_typed(neon_simple_env: NeonEnv) -> None:
    env = neon_simple_env
    with pytest.raises(PageserverApiException, match=r"tenant .* \(status 404\)"):
        env.pageserver.http_client().tenant_status(TenantId.generate())
    shard = TenantShardId.unsharded(env.initial_tenant)
    with pytest.raises(StorageControllerApiException, match="not found"):
        env.storage_controller.import_status(shard, TimelineId.generate(), 1)


def test_import_status_is_returned(neon_simple_env: NeonEnv) -> None:
    env = neon_simple_env
    env.storage_controller.configure_failpoints(("timeline-import-pre-cplane-notification", "pause"))
    tenant, timeline = env.initial_tenant, TimelineId.generate()
    bucket = env._empty_timelines._bucket()
    body = {
        "new_timeline_id": str(timeline),
        "import_pgdata": {"idempotency_key": "k", "location": {"LocalFs": {"path": str(bucket)}}},
    }
    assert env.storage_controller.timeline_create(tenant, body)["timeline_id"] == str(timeline)
    env.storage_controller.wait_log_contains("at failpoint timeline-import-pre-cplane-notification")
    status: ShardImportStatus = env.storage_controller.import_status(
        TenantShardId.unsharded(tenant), timeline, 1
    )
    assert status.is_terminal
    row = env.storage_controller.import_rows.get(tenant, timeline)
    assert row is not None and list(row.shards.values()) == [status]
    progress = env.storage_controller.import_progress(tenant, timeline)
    assert progress is not None and progress[0].done
    env.storage_controller.configure_failpoints(("timeline-import-pre-cplane-notification", "off"))
    assert env.control_plane.wait_import_complete(timeline) is None


def test_authentication(neon_env_builder: NeonEnvBuilder) -> None:
    neon_env_builder.auth_enabled = True
    env = neon_env_builder.init_start()
    with pytest.raises(PageserverApiException) as refused:
        env.pageserver.http_client().tenant_list()
    assert refused.value.status_code == 401
    token = env.auth_keys.generate_pageserver_token()
    assert len(env.pageserver.http_client(auth_token=token).tenant_list()) == 1
    env.pageserver.allowed_errors.append(".*Error processing HTTP request: Unauthorized.*")


def test_secrets_are_for_nobody_elses_eyes(neon_env_builder: NeonEnvBuilder) -> None:
    """Everybody can read command lines, and whatever file is readable; tokens and keys are in neither."""
    neon_env_builder.auth_enabled = True
    env = neon_env_builder.init_start()
    secrets = (b"eyJ", b"PRIVATE KEY")  # how a token begins, and a private key
    for service in env.services:
        command_line = Path(f"/proc/{service.pid}/cmdline").read_bytes()
        assert not any(secret in command_line + service.logfile.read_bytes() for secret in secrets)
        assert env.storage_controller.database_url.encode() not in command_line
    files = [file for file in env.repo_dir.rglob("*") if file.is_file()]
    holders = [file for file in files if any(secret in file.read_bytes() for secret in secrets)]
    assert {file.name for file in holders} == {"pageserver.toml", "auth_private_key.pem"}
    assert {oct(file.stat().st_mode & 0o777) for file in holders} == {"0o600"}
    env.pageserver.edit_config_toml(lambda config: config.update(control_plane_api_token="eyJ"))
    assert (env.pageserver.workdir / "pageserver.toml").stat().st_mode & 0o777 == 0o600


def test_what_is_left_out_says_so(neon_env_builder: NeonEnvBuilder, subtests: pytest.Subtests) -> None:
    env = neon_env_builder.init_configs()
    assert env.safekeepers == [] and env.storage_controller.get_safekeepers() == []
    uses: dict[str, Callable[[], object]] = {
        "branches": lambda: env.create_branch("b"),
        "a safekeeper": lambda: env.get_safekeeper(1),
        "safekeepers": lambda: env.safekeepers[0],
        "broker": lambda: env.broker.listen_addr(),
        "endpoint storage": lambda: env.endpoint_storage.base_url(),
        "scrubber": lambda: env.storage_scrubber.scan_metadata(),
        "branches by neon_cli": lambda: env.neon_cli.timeline_branch(
            TenantId.generate(), TimelineId.generate(), "x"
        ),
        "migration of safekeepers": lambda: env.storage_controller.migrate_safekeepers(
            TenantId.generate(), TimelineId.generate(), [1]
        ),
    }
    for what, use in uses.items():
        with subtests.test(what), pytest.raises(Unsupported, match="is not supported: "):
            use()


def test_benign_settings_are_accepted(neon_env_builder: NeonEnvBuilder) -> None:
    neon_env_builder.num_safekeepers = 3
    neon_env_builder.safekeepers_enable_fsync = True
    neon_env_builder.disable_scrub_on_exit()
    neon_env_builder.storage_controller_config = {"timelines_onto_safekeepers": True, "max_offline": "5s"}
    neon_env_builder.pageserver_config_override = "tenant_config={gc_period='0s'}"
    assert neon_env_builder.init_configs().safekeepers == []
