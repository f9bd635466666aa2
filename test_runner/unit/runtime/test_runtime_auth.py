"""Tokens, and what decisions about callers may rest on."""

from __future__ import annotations

import ast
import base64
import json
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import reattach
from reattach.api.ids import TenantId
from reattach.fixtures.auth_tokens import AuthKeys, write_key_pair
from reattach.pageserver.http import app
from reattach.runtime.auth import Claims, Scope, TokenAuth
from reattach.runtime.errors import Unauthorized
from reattach.storage_controller.routes import debug, nodes, tenants, timelines, upcalls
from test_runner.regress import access_tables

ENGINE = Path(reattach.__file__).parent


@pytest.fixture
def keys(tmp_path: Path) -> AuthKeys:
    return write_key_pair(tmp_path / "private.pem", tmp_path / "public.pem")


@pytest.fixture
def auth(keys: AuthKeys, tmp_path: Path) -> TokenAuth:
    return TokenAuth.from_path(tmp_path / "public.pem")


def test_claims(keys: AuthKeys, auth: TokenAuth) -> None:
    assert auth.claims(keys.generate_token(scope="infra")) == Claims(Scope.INFRA)
    tenant = TenantId.generate()
    assert auth.claims(keys.generate_tenant_token(tenant)) == Claims(Scope.TENANT, tenant)


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"scope": None},
        {"scope": "Admin"},
        {"scope": ["admin"]},
        {"scope": {"admin": 1}},
        {"scope": "tenant"},
        {"scope": "tenant", "tenant_id": 5},
        {"scope": "admin", "tenant_id": "xyz"},
        {"scope": "admin", "exp": 1},
        {"scope": "admin", "exp": "never"},
    ],
)
def test_bad_claims(keys: AuthKeys, auth: TokenAuth, payload: dict[str, object]) -> None:
    with pytest.raises(Unauthorized):
        auth.claims(jwt.encode(payload, keys.priv, algorithm="EdDSA"))


def _part(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "..",
        "é.é.é",
        "\udc80.a.b",
        _part(b"{}") + ".e30.e30",
        _part(b'{"alg": "none"}') + ".e30.",
        _part(json.dumps({"alg": "HS256"}).encode()) + ".e30.e30",
        # Read before any signature is checked, so anybody may send it.
        _part(b'{"alg": "EdDSA", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}") + ".e30.e30",
        _part(b'{"alg": "EdDSA", "x": ' + b"9" * 5000 + b"}") + ".e30.e30",
        _part(b'{"alg": ' + b"[" * 900 + b"]" * 900 + b"}") + ".e30.e30",
    ],
    ids=range(11),
)
def test_no_token_at_all(auth: TokenAuth, token: str) -> None:
    with pytest.raises(Unauthorized):
        auth.claims(token)


def test_keys_of_another_kind_are_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "rsa.pem"
    key = rsa.generate_private_key(65537, 2048).public_key()
    file.write_bytes(
        key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(ValueError, match=r"rsa.pem is no Ed25519 key"):
        TokenAuth.from_path(file)
    file.write_text("nonsense")
    with pytest.raises(ValueError, match=r"rsa.pem is no public key"):
        TokenAuth.from_path(file)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="no key file"):
        TokenAuth.from_path(empty)


def test_every_route_is_in_the_tables_of_who_may_use_it() -> None:
    """A new route is in none: whoever adds it says who may use it. The tables are tried on processes."""
    pageserver = {(e.method, e.path) for e in app.ENDPOINTS}
    expected = (
        access_tables.PAGESERVER_PUBLIC
        | access_tables.PAGESERVER_MANAGEMENT
        | access_tables.PAGESERVER_TENANT
    )
    assert pageserver == expected
    modules = (upcalls, tenants, nodes, debug, timelines)
    controller = {(spec.method, spec.path) for module in modules for spec in module.ROUTES}
    assert controller == access_tables.CONTROLLER.keys()


def test_nothing_is_decided_by_what_the_host_header_says() -> None:
    """`request.url` is made of it: with an older starlette `Host: a/metrics?` was a public path."""
    found = [
        f"{file.relative_to(ENGINE)}:{node.lineno}"
        for folder in ("runtime", "pageserver", "storage_controller")
        for file in (ENGINE / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in ("url", "base_url", "url_for")
        and isinstance(node.value, ast.Name)
        and node.value.id == "request"
    ]
    assert found == []
