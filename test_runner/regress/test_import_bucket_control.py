"""The bucket's control API: who may use it, and what it refuses."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from reattach.api.bucket import SECRET_VARIABLE, RuleState
from reattach.fixtures.bucket import BucketServer
from reattach.fixtures.bucket.control import BucketError, Control
from reattach.fixtures.http_probe import probe
from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.processes import Launcher, wait_for
from test_runner.regress.import_bucket_raw import Raw


def rule(action: str = '{"do": "hold"}', match: str = "{}") -> bytes:
    return f'{{"match": {match}, "action": {action}}}'.encode()


def test_control_refuses_nonsense(bucket_server: BucketServer) -> None:
    raw = Raw(bucket_server.port)
    for method, target, body, status in (
        ("GET", "/_control/nothing", None, 404),
        ("GET", "/_control/rules/99999", None, 404),
        ("GET", "/_control/rules/x", None, 404),
        ("POST", "/_control/rules", b"{}", 400),
        ("POST", "/_control/rules", b'{"match": {}, "action": {"do": "dance"}}', 400),
        ("POST", "/_control/rules", b'{"match": {"kye": "k"}, "action": {"do": "hold"}}', 400),
        ("POST", "/_control/rules", rule('{"do": "status", "status": 1}'), 400),
        ("POST", "/_control/rules", rule('{"do": "status", "status": 200}'), 400),
        ("POST", "/_control/rules", rule('{"do": "status", "status": 1000}'), 400),
        ("POST", "/_control/rules", rule('{"do": "delay", "seconds": -1}'), 400),
        ("POST", "/_control/rules", rule('{"do": "reset", "after": -1}'), 400),
        ("POST", "/_control/rules", rule('{"do": "truncate", "after": -1}'), 400),
        ("POST", "/_control/rules", rule('{"do": "stall", "after": -1}'), 400),
        ("POST", "/_control/rules", rule('{"do": "change_content", "offset": -1}'), 400),
        ("POST", "/_control/rules", rule('{"do": "change_etag", "etag": "a\\r\\nb: c"}'), 400),
        ("POST", "/_control/rules", rule(match='{"nth": 0}'), 400),
        ("POST", "/_control/rules", rule(match='{"times": 0}'), 400),
        ("POST", "/_control/rules", rule(match='{"byte_range": [5, 5]}'), 400),
        ("POST", "/_control/rules", rule(match='{"pattern": "("}'), 400),
        ("POST", "/_control/preload", b'{"directory": "relative", "bucket": "b"}', 400),
        ("POST", "/_control/preload", b'{"directory": "/nowhere", "bucket": "b"}', 400),
        ("GET", "/_control/requests?since=x", None, 400),
        ("POST", "/_control/rules", b" " * (2 << 20), 413),
    ):
        answer = raw(method, target, body, **bucket_server.control.headers)
        assert answer.status == status, (target, body)
        assert answer.body.startswith(b'{"msg":')
    raw.close()
    assert bucket_server.control.call(list[RuleState], "GET", "rules") == []


@pytest.mark.parametrize("given", ["none", "wrong", "empty"])
def test_control_is_for_who_has_the_secret(bucket_server: BucketServer, tmp_path: Path, given: str) -> None:
    """Nobody else reads the tester's files, sets rules, or looks into the log."""
    (tmp_path / "private").write_text("of the tester")
    headers = {"none": {}, "wrong": {"Authorization": "Bearer x"}, "empty": {"Authorization": "Bearer "}}[
        given
    ]
    body = json.dumps({"directory": str(tmp_path), "bucket": "leak"}).encode()
    raw = Raw(bucket_server.port)
    for method, target, content in (
        ("POST", "/_control/preload", body),
        ("POST", "/_control/reset", b"{}"),
        ("POST", "/_control/rules", rule()),
        ("GET", "/_control/rules", None),
        ("GET", "/_control/rules/1", None),
        ("DELETE", "/_control/rules/1", None),
        ("GET", "/_control/requests", None),
        ("GET", "/_control/health", None),
        ("GET", "/_control/nothing", None),
    ):
        assert raw(method, target, content, **headers).status == 403, target
    raw.close()
    with pytest.raises(FileNotFoundError):
        bucket_server.get("leak", "private")


def test_each_server_has_a_secret_of_its_own(
    bucket_server: BucketServer, launcher: Launcher, port_distributor: PortDistributor, tmp_path: Path
) -> None:
    """It is told to the process by its environment, as anybody can read arguments."""
    other = BucketServer(launcher, port_distributor.get_port(), tmp_path / "spool")
    other.start()
    try:
        with pytest.raises(BucketError, match="secret") as refused:
            Control("127.0.0.1", bucket_server.port, other.control.headers["Authorization"][7:]).health()
        assert refused.value.status == 403
        assert other.control.headers["Authorization"][7:] not in " ".join(other.process.argv)
    finally:
        other.stop()


def test_without_a_secret_nobody_is_served(
    launcher: Launcher, port_distributor: PortDistributor, tmp_path: Path
) -> None:
    port = port_distributor.get_port()
    process = launcher.start(
        "import_bucket",
        [sys.executable, "-m", "reattach.witness", "--listen", f"127.0.0.1:{port}"],
        log_path=tmp_path / "log",
        env={name: value for name, value in os.environ.items() if name != SECRET_VARIABLE},
    )
    raw = Raw(port, signed=False)
    try:
        wait_for(lambda: probe(port, "/") == 200, what="it to answer", timeout=20, alive=process)
        assert raw("GET", "/_control/health", Authorization="Bearer ").status == 403
    finally:
        raw.close()
        process.kill()
        process.wait(10)
