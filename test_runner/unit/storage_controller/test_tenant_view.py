"""Tenants as clients see them, while others change them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from unittest.mock import MagicMock

import pytest

from reattach.api.controller import PlacementPolicy
from reattach.api.ids import TenantId, TenantShardId
from reattach.storage_controller.core.model import Shard
from reattach.storage_controller.db import imports
from reattach.storage_controller.state import State
from reattach.storage_controller.tenant_view import TenantView


def _tenant(state: State) -> TenantId:
    tenant = TenantId.generate()
    shard = TenantShardId.unsharded(tenant)
    state.add(Shard(shard, 8, 1, None, PlacementPolicy.attached(), {}))
    return tenant


def test_a_tenant_that_goes_while_it_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is asked between choosing and describing; who has gone by then is not in the list."""
    state = State()
    tenants = sorted(_tenant(state) for _ in range(3))

    async def importing_tenants(_: object, asked: Collection[TenantId]) -> set[TenantId]:
        assert sorted(asked) == tenants
        state.remove_tenant(tenants[1])
        return {tenants[1], tenants[2]}

    monkeypatch.setattr(imports, "importing_tenants", importing_tenants)
    view = TenantView(MagicMock(), state, MagicMock(**{"is_running.return_value": False}), MagicMock())
    found = asyncio.run(view.describe_all(None, 10))
    assert [t.tenant_id for t in found] == [tenants[0], tenants[2]]
    assert [t.shards[0].is_importing for t in found] == [False, True]
