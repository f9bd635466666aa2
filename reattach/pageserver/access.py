"""Who may do what on a pageserver, over HTTP and over libpq."""

from __future__ import annotations

from reattach.api.ids import TenantId
from reattach.runtime.auth import Claims, Scope, forbidden


def check_permission(claims: Claims | None, tenant: TenantId | None) -> None:
    """Raises Forbidden unless the caller may act on `tenant`, or on the whole pageserver if None.

    claims: None where nobody needs a token. A tenant's own token is good for that tenant alone; no scope but
    `pageserverapi` is good for more, not even `admin`, which is the controller's.
    """
    if claims is None or claims.scope is Scope.PAGE_SERVER_API:
        return
    if claims.scope is Scope.TENANT and tenant is not None and claims.tenant_id == tenant:
        return
    raise forbidden()
