"""Tokens on the pageserver's HTTP port: every route with every scope, as the real system has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reattach.fixtures.auth_tokens import AuthKeys, TokenScope, write_key_pair
from test_runner.regress.access_tables import (
    PAGESERVER_MANAGEMENT,
    PAGESERVER_PUBLIC,
    PAGESERVER_TENANT,
    filled,
)
from test_runner.regress.pageserver.one_pageserver import PageserverProcess

OWN, OTHER = "12" * 16, "34" * 16
CONFIG_PATH = "/v1/tenant/config"


class Guarded:
    """A pageserver that wants tokens."""

    def __init__(self, server: PageserverProcess, keys: AuthKeys) -> None:
        self.server = server
        self.keys = keys

    def status(self, method: str, path: str, token: str | None, tenant: str = OWN) -> int:
        body = {"tenant_id": tenant} if path == CONFIG_PATH else None
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return self.server.request(method, filled(path, tenant), json=body, headers=headers).status_code


@pytest.fixture
def guarded(stopped_pageserver: PageserverProcess, tmp_path: Path) -> Iterator[Guarded]:
    public = tmp_path / "public.pem"
    keys = write_key_pair(tmp_path / "private.pem", public)
    stopped_pageserver.configure(http_auth_type="NeonJWT", auth_validation_public_key_path=str(public))
    yield Guarded(stopped_pageserver.start(), keys)


def is_let_in(status: int) -> bool:
    assert status not in (500, 502), status
    return status not in (401, 403)


def test_scopes(guarded: Guarded) -> None:
    """`pageserverapi` is good for everything, a tenant's own token for that tenant, the rest for nothing."""
    routes = PAGESERVER_MANAGEMENT | PAGESERVER_TENANT
    wrong: list[str] = []
    for method, path in sorted(routes):
        for scope in [*TokenScope, "tenantendpoint", "controller_peer", "nonsense"]:
            token = guarded.keys.generate_token(scope=scope, tenant_id=OWN)
            for tenant in (OWN, OTHER):
                expected = scope == TokenScope.PAGE_SERVER_API or (
                    scope == TokenScope.TENANT and tenant == OWN and (method, path) in PAGESERVER_TENANT
                )
                status = guarded.status(method, path, token, tenant)
                if is_let_in(status) is not expected:
                    wrong.append(f"{scope} {method} {path} of {tenant}: {status}")
        if guarded.status(method, path, None) != 401:
            wrong.append(f"no token {method} {path}")
    assert wrong == []
    assert guarded.status("GET", "/v1/tenant", "nonsense") == 401
    for method, path in PAGESERVER_PUBLIC:
        assert guarded.status(method, path, None) == 200


@pytest.mark.parametrize(
    "claims", [{}, {"tenant_id": ""}, {"tenant_id": "xyz"}, {"tenant_id": OWN + "-0102"}]
)
def test_a_tenants_token_names_the_tenant(guarded: Guarded, claims: dict[str, str]) -> None:
    token = guarded.keys.generate_token(scope=TokenScope.TENANT, **claims)
    assert guarded.status("GET", f"/v1/tenant/{OWN}", token) == 401


@pytest.mark.parametrize(
    "host", ["a/metrics?", "a/v1/status?", "a/metrics#", "/metrics?", "user@a/metrics?", "a:1/metrics?x="]
)
def test_the_host_header_opens_nothing(guarded: Guarded, host: str) -> None:
    response = guarded.server.request("GET", "/v1/tenant", headers={"Host": host})
    assert response.status_code == 401
    redirected = guarded.server.request("GET", "/v1/tenant/", headers={"Host": host}, allow_redirects=False)
    assert redirected.status_code == 404 and "location" not in redirected.headers
