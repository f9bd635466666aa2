"""EdDSA tokens: who may call what."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from starlette.requests import Request

from reattach.runtime.errors import Forbidden, Unauthorized


class Scope(StrEnum):
    ADMIN = "admin"
    PAGE_SERVER_API = "pageserverapi"
    GENERATIONS_API = "generations_api"
    SAFEKEEPER_DATA = "safekeeperdata"
    TENANT = "tenant"
    SCRUBBER = "scrubber"
    INFRA = "infra"
    CONTROLLER_PEER = "controller_peer"


class TokenAuth:
    """Checks bearer tokens against one or more public keys in PEM."""

    def __init__(self, public_keys: list[bytes]) -> None:
        self._keys = public_keys

    @classmethod
    def from_path(cls, path: Path) -> TokenAuth:
        """A key file, or a directory of them. Raises OSError."""
        files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        return cls([file.read_bytes() for file in files])

    def require(self, request: Request, *scopes: Scope) -> None:
        """Raises Unauthorized without a good token, Forbidden if its scope is none of `scopes`."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            raise Unauthorized("missing authorization header")
        self.require_token(token, *scopes)

    def require_token(self, token: str, *scopes: Scope) -> None:
        """Like `require`, for a token that came some other way."""
        import jwt  # 250 ms that only authenticated set-ups pay

        for key in self._keys:
            try:
                claims = jwt.decode(token, key, algorithms=["EdDSA"])
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidTokenError as e:
                raise Unauthorized(f"malformed token: {e}") from e
            if claims.get("scope") not in (Scope.ADMIN, *scopes):
                raise Forbidden("JWT authentication error")
            return
        raise Unauthorized("malformed token: no key verifies its signature")
