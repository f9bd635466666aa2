"""The process: its command line, its files, how it starts and how it ends."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import socket
from typing import Any

import pytest
import requests

from reattach.api.ids import TenantId, TenantShardId
from reattach.fixtures.bucket.server import BucketServer
from reattach.fixtures.env.engines import scripts_dir
from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.processes import Launcher, wait_for
from test_runner.regress.pageserver.one_pageserver import IMPORT_CONFIG, PageserverProcess
from test_runner.regress.pageserver.scripted_controller import FakeController
from test_runner.regress.pageserver.subject import REL, Subject
from test_runner.regress.storage_controller.test_storage_controller_process import make_certificate

PROGRAM = scripts_dir() / "pageserver"


def test_version_and_features(launcher: Launcher) -> None:
    assert '"testing"' in launcher.run([PROGRAM, "--version"], timeout=20).stdout
    features = launcher.run([PROGRAM, "--enabled-features"], timeout=20).stdout
    assert json.loads(features) == {"features": ["testing"]}
    assert "--workdir" in launcher.run([PROGRAM, "--help"], timeout=20).stdout


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"control_plane_api": None}, "`control_plane_api`: must be set"),
        (
            {"timeline_import_config": IMPORT_CONFIG | {"import_job_concurrency": 0}},
            "`timeline_import_config.import_job_concurrency`: must be a whole number above zero, not 0",
        ),
    ],
)
def test_wrong_config_ends_it_at_once(
    stopped_pageserver: PageserverProcess, config: dict[str, Any], words: str
) -> None:
    """One line that names the file, the key and the reason, and a code that is not 0."""
    stopped_pageserver.configure(**config)
    process = stopped_pageserver.spawn()
    assert process.wait(20) == 1
    assert stopped_pageserver.log_path.read_text() == f"pageserver: pageserver.toml: {words}\n"


def test_other_reasons_not_to_start(stopped_pageserver: PageserverProcess) -> None:
    identity = stopped_pageserver.workdir / "identity.toml"
    identity.write_text("name = 5")
    assert stopped_pageserver.spawn().wait(20) == 1
    identity.write_text("id = 1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        stopped_pageserver.configure(listen_http_addr=address)
        assert stopped_pageserver.spawn().wait(20) == 1
    assert stopped_pageserver.spawn({"FAILPOINTS": "no-equals-sign"}).wait(20) == 1
    lines = stopped_pageserver.log_lines("^pageserver: ")
    assert lines[0] == "pageserver: identity.toml: `id`: is required and missing"
    assert f"cannot listen on {address}" in lines[1]
    assert "lacks '='" in lines[2]


def test_unknown_key_is_a_warning(stopped_pageserver: PageserverProcess) -> None:
    stopped_pageserver.configure(page_cache_size=100, no_such_key=5)
    stopped_pageserver.start()
    warnings = stopped_pageserver.log_lines(r"\s(WARN|ERROR)\s")
    assert len(warnings) == 1
    assert "`no_such_key`" in warnings[0]


def test_one_process_per_directory(pageserver: PageserverProcess) -> None:
    first = pageserver.running
    second = pageserver.spawn()
    assert second.wait(20) == 1
    assert f"is locked by process {first.pid}" in pageserver.log_path.read_text()
    pageserver.process = first
    assert (pageserver.workdir / "pageserver.pid").read_text() == str(first.pid)
    pageserver.kill()
    pageserver.start()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_graceful_end(subject: Subject, sig: signal.Signals) -> None:
    """An import in mid-flight is interrupted, nothing is reported, the exit code is 0."""
    pageserver = subject.pageserver
    subject.attach()
    subject.import_until("import-job-5-taken-pausable")
    pageserver.running.send_signal(sig)
    assert pageserver.running.wait(20) == 0
    assert subject.recorded()["InProgress"]["V1"]["completed"] == 4
    assert pageserver.log_lines(r"\s(WARN|ERROR)\s") == []
    pageserver.start()
    subject.wait_recorded()


def test_sigquit_ends_it_at_once(pageserver: PageserverProcess) -> None:
    pageserver.running.send_signal(signal.SIGQUIT)
    assert pageserver.running.wait(20) == 111


def test_serves_nobody_before_it_re_attached(
    stopped_pageserver: PageserverProcess, controller: FakeController
) -> None:
    controller.is_reachable = False
    process = stopped_pageserver.spawn()
    stopped_pageserver.wait_log("storage controller upcall failed, will retry")
    with pytest.raises(requests.ConnectionError):
        stopped_pageserver.request("GET", "/v1/status")
    process.terminate()
    assert process.wait(20) == 0, "a signal ends it also while it waits for the controller"
    stopped_pageserver.spawn()
    controller.is_reachable = True
    wait_for(
        lambda: stopped_pageserver.request("GET", "/v1/status").json() == {"id": 1},
        what="an answer",
        timeout=20,
        alive=stopped_pageserver.running,
        ignore=(requests.ConnectionError,),
    )


def test_failpoints_from_the_environment(
    stopped_pageserver: PageserverProcess, tenant: TenantShardId
) -> None:
    stopped_pageserver.start({"FAILPOINTS": "api-503=1*return;api-500=off"})
    assert stopped_pageserver.log_lines("cfg failpoint: api-503 1[*]return")


def test_failpoint_exit(pageserver: PageserverProcess, tenant: TenantShardId) -> None:
    pageserver.failpoint("attach-before-activate", "exit")
    with pytest.raises(requests.ConnectionError):
        pageserver.attach(tenant)
        pageserver.call("GET", f"/v1/tenant/{tenant}")
    assert pageserver.running.wait(20) == 1
    assert pageserver.log_lines("Exit requested by failpoint")


def test_registers_itself(stopped_pageserver: PageserverProcess, controller: FakeController) -> None:
    metadata = {
        "host": "localhost",
        "port": 64000,
        "http_host": "localhost",
        "http_port": stopped_pageserver.http_port,
        "https_port": None,
        "availability_zone_id": "us-east-2a",
        "neon_local_extra": 5,
    }
    (stopped_pageserver.workdir / "metadata.json").write_text(json.dumps(metadata))
    stopped_pageserver.configure(control_plane_api_token="secret")
    stopped_pageserver.start()
    (call,) = controller.called("re-attach")
    assert call.authorization == "Bearer secret"
    assert call.body == {
        "node_id": 1,
        "register": {
            "node_id": 1,
            "listen_pg_addr": "localhost",
            "listen_pg_port": 64000,
            "listen_http_addr": "localhost",
            "listen_http_port": stopped_pageserver.http_port,
            "listen_https_port": None,
            "listen_grpc_addr": None,
            "listen_grpc_port": None,
            "availability_zone_id": "us-east-2a",
            "node_ip_addr": None,
        },
        "empty_local_disk": True,
    }


def test_emergency_mode(
    pageserver: PageserverProcess, controller: FakeController, tenant: TenantShardId
) -> None:
    """Without the controller, tenants come back in the generation that they had."""
    generation = pageserver.attach(tenant)
    pageserver.kill()
    controller.is_reachable = False
    pageserver.configure(control_plane_emergency_mode=True)
    pageserver.start()
    assert pageserver.call("GET", f"/v1/tenant/{tenant}")["generation"] == generation
    assert pageserver.log_lines("Emergency mode!")


@pytest.mark.parametrize("what", ["a file", "timelines is a file", "config is a directory"])
def test_one_tenants_bad_path_stops_nobody_else(subject: Subject, tenant: TenantShardId, what: str) -> None:
    """I10: it is named, the others are served, and it is attached when its path is mended."""
    pageserver = subject.pageserver
    other = TenantShardId.unsharded(TenantId.generate())
    subject.attach()
    subject.import_and_activate()
    pageserver.attach(other)
    pageserver.kill()
    bad = pageserver.workdir / "tenants" / str(other)
    shutil.rmtree(bad)
    if what == "a file":
        bad.write_text("in the way")
    else:
        bad.mkdir()
        if what == "timelines is a file":
            (bad / "timelines").write_text("in the way")
        else:
            (bad / "config-v1").mkdir()
    pageserver.start()
    assert subject.get_page(REL.block(0)) == subject.source_page(0)
    assert pageserver.log_lines(f"tenant {other} is not started, its directory cannot be written")
    shutil.rmtree(bad) if bad.is_dir() else bad.unlink()
    pageserver.attach(other)
    assert pageserver.call("GET", f"/v1/tenant/{other}")["state"]["slug"] == "Active"


def test_the_limit_of_open_files_is_raised(stopped_pageserver: PageserverProcess) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    stopped_pageserver.start()
    found = resource.prlimit(stopped_pageserver.running.pid, resource.RLIMIT_NOFILE)
    assert found == (hard, hard)


def test_a_moment_without_files(subject: Subject) -> None:
    """I10: an import that cannot open a file for a while goes on afterwards."""
    pageserver = subject.pageserver
    subject.attach()
    subject.import_until("import-job-1-taken-pausable")
    pid = pageserver.running.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    pageserver.failpoint("import-job-1-taken-pausable", "off")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    try:
        wait_for(
            lambda: pageserver.log_lines("Too many open files"),
            what="a shortage",
            timeout=20,
            alive=pageserver.running,
        )
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    subject.wait_recorded()
    subject.activate()
    assert subject.get_page(REL.block(0)) == subject.source_page(0)


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_S3", "AWS_S3_EXPRESS", "HTTP_PROXY", "http_proxy"])
def test_the_environment_does_not_say_where_objects_are(
    s3_subject: Subject, bucket_server: BucketServer, name: str
) -> None:
    """The endpoint of pageserver.toml is the one that is asked."""
    pageserver = s3_subject.pageserver
    pageserver.stop()
    pageserver.start({**bucket_server.environment("pageserver"), name: "http://127.0.0.1:9"})
    s3_subject.attach()
    s3_subject.import_and_activate()


def test_a_machine_without_certificates(s3_subject: Subject, bucket_server: BucketServer) -> None:
    """They are not needed where nothing is encrypted."""
    pageserver = s3_subject.pageserver
    pageserver.stop()
    none = {"SSL_CERT_FILE": "/nonexistent", "SSL_CERT_DIR": "/nonexistent"}
    pageserver.start(bucket_server.environment("pageserver") | none)
    s3_subject.attach()
    s3_subject.import_and_activate()


def test_https(stopped_pageserver: PageserverProcess, port_distributor: PortDistributor) -> None:
    """The same routes, with the certificate of pageserver.toml."""
    server, port = stopped_pageserver, port_distributor.get_port()
    certificate, key = make_certificate(server.workdir)
    server.configure(
        listen_https_addr=f"127.0.0.1:{port}",
        ssl_cert_file=certificate.name,
        ssl_key_file=str(key),
        page_cache_size=5,
    )
    server.start()
    url = f"https://127.0.0.1:{port}/v1/status"
    assert requests.get(url, verify=str(certificate), timeout=10).json() == {"id": 1}
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(url, timeout=10)
    assert server.log_lines("configuration items that have no effect here: page_cache_size$")
    assert server.stop() == 0


def test_tls_that_cannot_be_served_is_refused(stopped_pageserver: PageserverProcess) -> None:
    stopped_pageserver.configure(enable_tls_page_service_api=True)
    assert stopped_pageserver.spawn().wait(20) == 1
    assert "`enable_tls_page_service_api`: " in stopped_pageserver.log_path.read_text()
