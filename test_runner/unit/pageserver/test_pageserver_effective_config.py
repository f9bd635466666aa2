"""A tenant's configuration, merged."""

from __future__ import annotations

from reattach.api.controller import TENANT_CONFIG_KEYS
from reattach.pageserver.tenant.effective_config import DEFAULTS, effective_config


def test_every_key_has_a_default() -> None:
    assert DEFAULTS.keys() == TENANT_CONFIG_KEYS


def test_the_tenant_counts_before_the_server_before_the_defaults() -> None:
    config = effective_config(
        {"gc_horizon": 5, "gc_period": "2h"}, {"gc_horizon": 6, "gc_period": None, "unknown": 1}
    )
    assert (config["gc_horizon"], config["gc_period"], config["unknown"]) == (6, "2h", 1)
    assert config["checkpoint_distance"] == DEFAULTS["checkpoint_distance"]
