"""EdDSA tokens: who calls, and what the caller may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from starlette.requests import Request

from reattach.api.ids import TenantId
from reattach.runtime.errors import Forbidden, Unauthorized


class Scope(StrEnum):
    ADMIN = "admin"
    PAGE_SERVER_API = "pageserverapi"
    GENERATIONS_API = "generations_api"
    SAFEKEEPER_DATA = "safekeeperdata"
    TENANT = "tenant"
    TENANT_ENDPOINT = "tenantendpoint"
    SCRUBBER = "scrubber"
    INFRA = "infra"
    CONTROLLER_PEER = "controller_peer"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good token says. tenant_id: always set with the scope `tenant`."""

    scope: Scope
    tenant_id: TenantId | None = None

    def require(self, *scopes: Scope) -> None:
        """Raises Forbidden unless the token has one of `scopes`."""
        if self.scope not in scopes:
            raise forbidden()


def forbidden() -> Forbidden:
    """The one answer to whoever may not: it does not say what would be needed, or what is there."""
    return Forbidden("JWT authentication error")


class TokenAuth:
    """Checks bearer tokens against one or more public keys in PEM."""

    def __init__(self, public_keys: list[bytes]) -> None:
        self._keys = public_keys

    @classmethod
    def from_path(cls, path: Path) -> TokenAuth:
        """A key file, or a directory of them. Raises OSError, and ValueError that names the file."""
        files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        if not files:
            raise ValueError(f"no key file in {path}")
        keys = [file.read_bytes() for file in files]
        for file, key in zip(files, keys, strict=True):
            _check_key(key, str(file))
        return cls(keys)

    @classmethod
    def from_pem(cls, text: str, origin: str) -> TokenAuth:
        """A key by its text. Raises ValueError that says `origin`."""
        _check_key(text.encode(), origin)
        return cls([text.encode()])

    def claims_of(self, request: Request) -> Claims:
        """Raises Unauthorized without a good token."""
        headers = request.headers.getlist("authorization")
        scheme, _, token = (headers[0] if headers else "").partition(" ")
        if scheme != "Bearer" or not token:
            raise Unauthorized("missing authorization header")
        if len(headers) > 1:
            raise Unauthorized("more than one authorization header")
        return self.claims(token)

    def claims(self, token: str) -> Claims:
        """What a token says that came in whatever way. Raises Unauthorized."""
        import jwt  # 250 ms that only authenticated set-ups pay

        for key in self._keys:
            try:
                return _claims(jwt.decode(token, key, algorithms=["EdDSA"]))
            except jwt.InvalidSignatureError:
                continue
            # Whoever has no key may nest a header deeper than Python reads.
            except (jwt.PyJWTError, RecursionError, UnicodeError) as e:
                raise Unauthorized(f"malformed token: {e}") from e
        raise Unauthorized("malformed token: no key verifies its signature")


def _claims(payload: Mapping[str, Any]) -> Claims:
    """Raises Unauthorized."""
    tenant = payload.get("tenant_id")
    try:
        claims = Claims(Scope(payload["scope"]), None if tenant is None else TenantId.from_json(tenant))
    except (KeyError, ValueError) as e:
        raise Unauthorized(f"malformed token: {e}") from e
    if claims.scope is Scope.TENANT and claims.tenant_id is None:
        raise Unauthorized("jwt token scope is Tenant, but tenant id is missing")
    return claims


def _check_key(pem: bytes, origin: str) -> None:
    """Raises ValueError unless it is a public key of the kind that tokens are signed with."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as e:
        raise ValueError(f"{origin} is no public key in PEM: {e}") from e
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{origin} is no Ed25519 key")
