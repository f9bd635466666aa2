"""Ids: text forms, parsing, order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.api import codec
from reattach.api.ids import ShardIndex, TenantId, TenantShardId
from test_runner.unit.api.strategies import ids, tenant_ids, tenant_shard_ids


@given(ids)
def test_id_text_is_lower_case_hex_and_reads_back(raw: bytes) -> None:
    tenant = TenantId.from_bytes(raw)
    assert str(tenant) == raw.hex()
    assert TenantId(str(tenant)) == TenantId(str(tenant).upper()) == tenant
    assert codec.decode(codec.encode(tenant), TenantId) == tenant


@given(st.text(max_size=40))
def test_anything_but_32_hex_digits_is_no_id(text: str) -> None:
    is_id = len(text) == 32 and all(c in "0123456789abcdefABCDEF" for c in text)
    if not is_id:
        with pytest.raises(ValueError):
            TenantId(text)


@given(tenant_shard_ids)
def test_tenant_shard_id_reads_back(tenant_shard_id: TenantShardId) -> None:
    text = str(tenant_shard_id)
    assert TenantShardId.parse(text) == tenant_shard_id
    assert codec.decode(codec.encode(tenant_shard_id), TenantShardId) == tenant_shard_id
    assert len(text) == (37 if tenant_shard_id.shard_count else 32)


@given(tenant_ids)
def test_unsharded_is_not_one_shard_of_one(tenant: TenantId) -> None:
    unsharded, single = TenantShardId.unsharded(tenant), TenantShardId(tenant, 0, 1)
    assert (str(unsharded), str(single)) == (str(tenant), f"{tenant}-0001")
    assert unsharded != single
    assert (unsharded.shard_index.suffix, single.shard_index.suffix) == ("", "-0001")


@pytest.mark.parametrize("text", ["", "00", "0g11", "00000", "0201", "ff10"])
def test_bad_shard_indices_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        ShardIndex.parse(text)


@pytest.mark.parametrize("length", [0, 31, 33, 36, 38])
def test_tenant_shard_ids_of_other_lengths_are_refused(length: int) -> None:
    with pytest.raises(ValueError):
        TenantShardId.parse("0" * length)
