"""Locations: requests, `config-v1`, and what becomes of them at a restart."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.api.ids import ShardIndex, TenantId, TenantShardId
from reattach.api.location import LocationConfig, LocationConfigMode, SecondaryConf
from reattach.api.shard import ShardIdentity
from reattach.api.upcall import ReAttachTenant
from reattach.pageserver.tenant.location import (
    BadLocationFile,
    LocationConf,
    read_location,
    write_location,
)
from reattach.pageserver.tenant.restart import plan_emergency_restart, plan_restart, scan_tenants
from reattach.runtime.errors import BadRequest

SINGLE, MULTI, STALE = (LocationConfigMode(f"Attached{name}") for name in ("Single", "Multi", "Stale"))
SECONDARY, DETACHED = LocationConfigMode.SECONDARY, LocationConfigMode.DETACHED
TENANT = TenantId("ab" * 16)
SHARD = TenantShardId(TENANT, 1, 4)
UNSHARDED_TABLE = "[shard]\nnumber = 0\ncount = 0\nstripe_size = 1\n"

shards = st.integers(1, 8).flatmap(
    lambda count: st.builds(ShardIdentity, st.integers(0, count - 1), st.just(count), st.integers(1, 65536))
)
json_values = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-(1 << 62), 1 << 62),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
tenant_confs = st.dictionaries(st.text(max_size=8), json_values, max_size=3)
attached_confs = st.builds(
    LocationConf, st.sampled_from([SINGLE, MULTI, STALE]), st.integers(0, 0xFFFFFFFF), shards, tenant_confs
)
secondary_confs = st.builds(LocationConf, st.just(SECONDARY), st.none(), shards, tenant_confs, st.booleans())
confs = st.one_of(attached_confs, secondary_confs)


@given(confs)
def test_config_file_round_trip(conf: LocationConf) -> None:
    assert LocationConf.from_toml(conf.to_toml()) == conf


def test_config_file_format(tmp_path: Path) -> None:
    conf = LocationConf(STALE, 7, ShardIdentity(1, 4, 2048), {"gc_period": "1h"})
    write_location(tmp_path, conf, sync=True)
    text = (tmp_path / "config-v1").read_text()
    assert text.startswith("#")
    assert tomllib.loads(text) == {
        "mode": {"Attached": {"generation": 7, "attach_mode": "Stale"}},
        "shard": {"number": 1, "count": 4, "stripe_size": 2048, "layout": 1},
        "tenant_conf": {"gc_period": "1h"},
    }
    assert read_location(tmp_path) == conf
    assert [path.name for path in tmp_path.iterdir()] == ["config-v1"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mode = 5",
        "[mode.Attached]\ngeneration = 1\n" + UNSHARDED_TABLE,
        "[mode.Attached]\ngeneration = 1\nattach_mode = 'Odd'\n" + UNSHARDED_TABLE,
        "[mode.Secondary]\nwarm = true\n[shard]\nnumber = 3\ncount = 2\nstripe_size = 1",
        "[mode.Sideways]\n" + UNSHARDED_TABLE,
        "[[[",
    ],
)
def test_bad_config_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "config-v1").write_text(text)
    with pytest.raises(BadLocationFile):
        read_location(tmp_path)


@given(confs)
def test_what_the_api_shows_makes_the_same_location(conf: LocationConf) -> None:
    assert LocationConf.from_request(conf.to_api(), conf.shard.index) == conf


@pytest.mark.parametrize(
    "changes",
    [
        {"generation": None},
        {"mode": SECONDARY},
        {"generation": -1},
        {"generation": 1 << 32},
        {"shard_number": 2},
        {"shard_count": 0, "shard_number": 0},
        {"shard_stripe_size": 0},
        {"shard_stripe_size": -5},
    ],
)
def test_bad_requests(changes: dict[str, Any]) -> None:
    good: dict[str, Any] = {
        "mode": SINGLE,
        "generation": 1,
        "tenant_conf": {},
        "shard_number": 1,
        "shard_count": 4,
        "shard_stripe_size": 2048,
    }
    LocationConf.from_request(LocationConfig(**good), SHARD.shard_index)
    with pytest.raises(BadRequest):
        LocationConf.from_request(LocationConfig(**good | changes), SHARD.shard_index)


def test_unsharded_request_has_a_default_stripe() -> None:
    request = LocationConfig(SECONDARY, {"a": None, "b": 1}, secondary_conf=SecondaryConf(False))
    conf = LocationConf.from_request(request, ShardIndex(0, 0))
    assert conf == LocationConf(SECONDARY, None, ShardIdentity(0, 0, 2048), {"b": 1}, warm=False)


# Restart


def attached(generation: int) -> LocationConf:
    return LocationConf(SINGLE, generation, ShardIdentity(1, 4, 2048), {"gc_period": "1h"})


def answer(mode: LocationConfigMode, generation: int | None) -> ReAttachTenant:
    return ReAttachTenant(SHARD, generation, mode, 2048)


@pytest.mark.parametrize(
    ("conf", "wanted", "started"),
    [
        (attached(3), answer(SINGLE, 4), attached(4)),
        (attached(3), answer(MULTI, 3), attached(3).attached_in(MULTI, 3)),
        (attached(3).as_secondary(), answer(SINGLE, 9), attached(9)),
        (attached(3), answer(SECONDARY, None), attached(3).as_secondary()),
        (attached(3), answer(SINGLE, None), None),
        (attached(3), answer(DETACHED, None), None),
        (attached(3), None, None),
        (None, answer(SINGLE, 4), LocationConf(SINGLE, 4, ShardIdentity(1, 4, 2048))),
        (None, None, None),
    ],
)
def test_restart(
    conf: LocationConf | None, wanted: ReAttachTenant | None, started: LocationConf | None
) -> None:
    plan = plan_restart({SHARD: conf}, [] if wanted is None else [wanted])
    if started is None:
        assert (plan.start, plan.remove) == ({}, {SHARD: conf})
    else:
        assert (plan.start, plan.remove) == ({SHARD: started}, {})


def test_a_generation_that_falls_demotes(caplog: pytest.LogCaptureFixture) -> None:
    """I4: who is told an older generation than its own does not attach in either."""
    plan = plan_restart({SHARD: attached(5)}, [answer(SINGLE, 4)])
    assert plan.start == {SHARD: attached(5).as_secondary()}
    assert "decreasing generation" in caplog.text


def test_unknown_locally_is_left_to_the_controller() -> None:
    plan = plan_restart({}, [answer(SINGLE, 4)])
    assert (plan.start, plan.remove) == ({}, {})


def test_emergency_restart_keeps_what_was() -> None:
    other = TenantShardId(TENANT, 2, 4)
    plan = plan_emergency_restart({SHARD: attached(5), other: None})
    assert (plan.start, plan.remove) == ({SHARD: attached(5)}, {})


def test_scan(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = tmp_path / str(SHARD), tmp_path / f"{TENANT}-0204"
    for directory in (good, bad, tmp_path / "x.___temp" / "deep", tmp_path / "odd"):
        directory.mkdir(parents=True)
    write_location(good, attached(5), sync=False)
    assert scan_tenants(tmp_path) == {SHARD: attached(5), TenantShardId(TENANT, 2, 4): None}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([good.name, bad.name, "odd"])
    assert "no tenant directory" in caplog.text
