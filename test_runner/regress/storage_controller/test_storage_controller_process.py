"""The process: health, failpoints, tokens, certificates, signals."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import ipaddress
import re
import ssl
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from reattach.fixtures.ports import PortDistributor
from test_runner.regress.storage_controller.api import NoAnswer
from test_runner.regress.storage_controller.cloud import Cloud
from test_runner.regress.storage_controller.conftest import MakeCloud


def test_health(cloud: Cloud) -> None:
    for path in ("/status", "/live", "/ready"):
        assert cloud.api.call("GET", path) == (200, None)
    assert cloud.api.ok("GET", "/control/v1/leader")["address"] == f"http://127.0.0.1:{cloud.port}/"


def test_metrics(cloud: Cloud) -> None:
    """Trap 11: counters end in _total."""
    tenant = cloud.create_tenant(shards=2)
    cloud.report(cloud.shards(tenant)[0], uuid.uuid4().hex, "Done")
    text = cloud.api.call_raw("GET", "/metrics")[1].decode()
    for expected in (
        r"storage_controller_tenant_shards 2\.0",
        r"storage_controller_pageserver_nodes 1\.0",
        r'storage_controller_reconcile_complete_total\{status="ok"\} [1-9]',
        r'storage_controller_leadership_status\{status="leader"\} 1\.0',
        r'storage_controller_http_request_status_total\{method="POST",path="/v1/tenant",status="201"\} 1\.0',
        r'storage_controller_http_request_status_total\{[^}]*timeline_import_status",status="404"\} 1\.0',
        r'storage_controller_database_query_latency_count\{operation="insert_tenant"\} 1\.0',
    ):
        assert re.search(expected, text), expected


def test_log_severity(cloud: Cloud) -> None:
    """A 4xx is INFO, a 500 is ERROR; every line is one that log scanners can read."""
    cloud.api.call("GET", "/control/v1/tenant/nonsense")
    cloud.report(uuid.uuid4().hex, uuid.uuid4().hex, "Done", 1)
    assert re.search(r"^\S+Z  INFO \S*Error processing HTTP request: .*failed to parse", cloud.log, re.M)
    assert re.search(r"^\S+Z ERROR \S*Error processing HTTP request: .* shard not found", cloud.log, re.M)
    allowed = {"Starting in dev mode: this may be an insecure configuration."}
    warnings = re.findall(r"^\S+Z  ?(?:WARN|ERROR) (.*)$", cloud.log, re.M)
    assert [w for w in warnings if w not in allowed and "shard not found" not in w] == []


def test_failpoint_actions(cloud: Cloud) -> None:
    """Trap 32: exit says why and ends with 1; a sleeping one says that it sleeps."""
    tenant = cloud.create_tenant()
    put = "/debug/v1/failpoints"
    assert cloud.api.call("PUT", put, [{"name": "x", "actions": "nonsense"}])[0] == 400
    cloud.failpoint("tenant-update-policy-exclusive-lock", "return(50)")
    cloud.set_policy(tenant, {"Attached": 0})
    assert 'failpoint "tenant-update-policy-exclusive-lock": sleeping for 50ms' in cloud.log
    assert 'failpoint "tenant-update-policy-exclusive-lock": sleep done' in cloud.log
    cloud.failpoint("storcon-write-update-tenant-pre", "exit")
    with pytest.raises(NoAnswer):
        cloud.set_policy(tenant, "Detached")
    assert cloud.controller is not None and cloud.controller.wait(10) == 1
    assert "Exit requested by failpoint" in cloud.log


@pytest.mark.parametrize("point", ["storcon-write-update-tenant-pre", "storcon-call-location-config-pre"])
def test_a_panic_ends_the_process(cloud: Cloud, point: str) -> None:
    """In a request and in a background task; nothing goes on in an unknown state."""
    tenant = cloud.create_tenant()
    cloud.failpoint(point, "panic")
    with contextlib.suppress(NoAnswer):
        cloud.set_policy(tenant, "Detached")
    assert cloud.controller is not None and cloud.controller.wait(10) == 1
    assert "panicked" in cloud.log


def test_locks_order_what_belongs_together(cloud: Cloud) -> None:
    """A policy change waits for a timeline creation of the same tenant, not of another."""
    tenant, other = cloud.create_tenant(), cloud.create_tenant()
    cloud.failpoint("tenant-create-timeline-shared-lock", "1*return(600)")
    with ThreadPoolExecutor(1) as pool:
        creation = pool.submit(cloud.create_import, tenant)
        cloud.wait(lambda: "sleeping for 600ms" in cloud.log, "the creation to hold its lock")
        began = time.monotonic()
        cloud.set_policy(other, {"Attached": 0})
        quick = time.monotonic() - began
        cloud.set_policy(tenant, {"Attached": 0})
        slow = time.monotonic() - began
        creation.result()
    assert quick < 0.3 < slow


def test_terminates_on_signal(cloud: Cloud) -> None:
    assert cloud.controller is not None
    cloud.controller.terminate()
    assert cloud.controller.wait(10) == 0
    assert "Terminating on signal" in cloud.log
    assert "Service shutdown complete" in cloud.log


def test_terminates_while_a_creation_waits(cloud: Cloud) -> None:
    """Its client is told; what was begun goes on after the restart; no line of the log alarms anybody."""
    tenant, timeline = cloud.create_tenant(), uuid.uuid4().hex
    cloud.node(1).kill()
    with ThreadPoolExecutor(1) as pool:
        path, body = f"/v1/tenant/{tenant}/timeline", cloud.import_body(timeline)
        creation = pool.submit(cloud.api.call, "POST", path, body)
        cloud.wait(lambda: "will be retried" in cloud.log, "the creation to be under way")
        assert cloud.controller is not None
        cloud.controller.terminate()
        assert cloud.controller.wait(20) == 0
        assert creation.result() == (503, {"msg": "Shutting down"})
    assert re.findall(r"^\S+Z (?: WARN|ERROR) (?!Starting in dev).*", cloud.log, re.M) == []
    assert "Traceback" not in cloud.log
    cloud.start_controller()
    cloud.node(1).start()
    cloud.wait(lambda: timeline in cloud.remote.timelines(tenant), "the timeline to be created")


def test_a_taken_port_is_named(cloud: Cloud) -> None:
    first = cloud.controller
    assert first is not None
    second = cloud.launch_controller()
    assert second.wait(10) == 1
    assert f"cannot listen on 127.0.0.1:{cloud.port}" in cloud.log
    cloud.controller = first


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / "server.crt", directory / "server.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file


def test_the_control_planes_certificate_is_checked_against_the_ca_file(
    make_cloud: MakeCloud, tmp_path: Path
) -> None:
    """Trap 30: --ssl-ca-file counts for the control plane too."""
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    told: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            told.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """`told` has it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    url = f"https://127.0.0.1:{server.server_address[1]}/"
    try:
        cloud = make_cloud(
            control_plane=False, arguments=["--control-plane-url", url, "--ssl-ca-file", str(certificate)]
        )
        tenant = cloud.create_tenant()
        timeline = cloud.create_import(tenant)
        cloud.report(tenant, timeline, "Done")
        cloud.wait(lambda: "/import_complete" in told, "the control plane to be told over TLS")
    finally:
        server.shutdown()
        server.server_close()


def test_https(make_cloud: MakeCloud, tmp_path: Path, port_distributor: PortDistributor) -> None:
    certificate, key = make_certificate(tmp_path)
    port = port_distributor.get_port()
    make_cloud(
        nodes=0,
        arguments=[
            *("--listen-https", f"127.0.0.1:{port}"),
            *("--ssl-cert-file", str(certificate), "--ssl-key-file", str(key)),
        ],
    )
    context = ssl.create_default_context(cafile=certificate)

    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
    connection.request("GET", "/ready")
    assert connection.getresponse().status == 200
    connection.close()
