"""Tokens on the controller's port: every route with every scope, as the real system has it."""

from __future__ import annotations

import http.client
from pathlib import Path

from reattach.fixtures.auth_tokens import TokenScope, write_key_pair
from test_runner.regress.access_tables import CONTROLLER, CONTROLLER_PUBLIC, filled
from test_runner.regress.storage_controller.conftest import MakeCloud

TENANT = "12" * 16


def test_scopes(make_cloud: MakeCloud, tmp_path: Path) -> None:
    """Each route takes its scope and `admin`. Nobody is let in by a token that was made for one tenant."""
    keys = write_key_pair(tmp_path / "private.pem", tmp_path / "public.pem")
    cloud = make_cloud(nodes=0, arguments=["--public-key", (tmp_path / "public.pem").read_text()])
    wrong: list[str] = []
    for (method, path), wanted in sorted(CONTROLLER.items()):
        for scope in [*TokenScope, "tenantendpoint", "controller_peer", "nonsense"]:
            token = keys.generate_token(scope=scope, tenant_id=TENANT)
            status = cloud.api.call_raw(method, filled(path, TENANT), token=token)[0]
            expected = scope in (wanted, TokenScope.ADMIN)
            if (status not in (401, 403)) is not expected or (expected and status >= 500):
                wrong.append(f"{scope} {method} {path}: {status}")
        if cloud.api.call_raw(method, filled(path, TENANT))[0] != 401:
            wrong.append(f"no token {method} {path}")
    assert wrong == []
    stranger = write_key_pair(tmp_path / "other.pem", tmp_path / "other.pub").generate_token(scope="admin")
    for token in ("nonsense", stranger):
        assert cloud.api.call_raw("GET", "/control/v1/node", token=token)[0] == 401
    for method, path in CONTROLLER_PUBLIC:
        assert cloud.api.call_raw(method, path)[0] == 200


def test_the_host_header_opens_nothing(make_cloud: MakeCloud, tmp_path: Path) -> None:
    write_key_pair(tmp_path / "private.pem", tmp_path / "public.pem")
    cloud = make_cloud(nodes=0, arguments=["--public-key", (tmp_path / "public.pem").read_text()])
    for path, expected in (("/control/v1/node", 401), ("/control/v1/node/", 404)):
        connection = http.client.HTTPConnection("127.0.0.1", cloud.port, timeout=10)
        connection.request("GET", path, headers={"Host": "a/metrics?"})
        response = connection.getresponse()
        assert (response.status, response.getheader("location")) == (expected, None)
        connection.close()
