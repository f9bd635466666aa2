"""`pageserver.toml`, `identity.toml` and `metadata.json`: what is taken, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.api.ids import NodeId
from reattach.pageserver.config.errors import ConfigError
from reattach.pageserver.config.identity import load_node_id, load_registration
from reattach.pageserver.config.pageserver_toml import (
    IMPORT_KEYS,
    AuthType,
    ineffective_keys,
    load_config,
    parse_config,
    unknown_keys,
)
from reattach.pageserver.config.remote_storage import LocalFsConfig, S3Config

WORKDIR = Path("/work dir")
IMPORTS = dict.fromkeys(IMPORT_KEYS, 7)
MINIMAL: dict[str, Any] = {
    "control_plane_api": "http://127.0.0.1:1234/upcall/v1",
    "remote_storage": {"local_path": "remote"},
}


def refused(**changes: Any) -> ConfigError:
    table = {key: value for key, value in (MINIMAL | changes).items() if value is not None}
    with pytest.raises(ConfigError) as caught:
        parse_config(table, WORKDIR)
    assert "\n" not in str(caught.value)
    return caught.value


def test_defaults() -> None:
    config = parse_config(MINIMAL, WORKDIR)
    assert (config.listen_http_addr, config.listen_pg_addr) == ("127.0.0.1:9898", "127.0.0.1:64000")
    assert config.http_auth_type is AuthType.TRUST
    assert config.control_plane_api == "http://127.0.0.1:1234/upcall/v1/"
    assert config.remote_storage == LocalFsConfig(local_path=WORKDIR / "remote")
    assert config.imports.import_job_soft_size_limit == 256 << 20
    assert (config.concurrent_tenant_warmup, config.background_task_maximum_delay) == (8, 10.0)
    assert not config.no_sync


def test_s3() -> None:
    table = {
        "bucket_name": "b",
        "bucket_region": "r",
        "prefix_in_bucket": "/some/prefix/",
        "endpoint": "http://127.0.0.1:1",
        "timeout": "1m",
    }
    config = parse_config(MINIMAL | {"remote_storage": table}, WORKDIR)
    assert config.remote_storage == S3Config(
        bucket_name="b",
        bucket_region="r",
        prefix_in_bucket="some/prefix",
        endpoint="http://127.0.0.1:1",
        timeout=60.0,
    )


def test_import_config() -> None:
    table = {**IMPORTS, "verify_checksums": True}
    changes = {"timeline_import_config": table, "image_compression": "disabled"}
    config = parse_config(MINIMAL | changes, WORKDIR)
    assert config.imports.import_job_max_byte_range_size == 7
    assert config.imports.verify_checksums
    assert config.imports.compression.zstd_level is None


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"control_plane_api": None}, "control_plane_api"),
        ({"control_plane_api": "127.0.0.1:1234"}, "control_plane_api"),
        ({"control_plane_api": 5}, "control_plane_api"),
        ({"remote_storage": None}, "remote_storage"),
        ({"remote_storage": {}}, "remote_storage"),
        ({"remote_storage": {"bucket_name": "b"}}, "remote_storage"),
        ({"remote_storage": {"local_path": 5}}, "remote_storage.local_path"),
        ({"remote_storage": {"local_path": "x", "timeout": "soon"}}, "remote_storage.timeout"),
        (
            {"remote_storage": {"bucket_name": "b", "bucket_region": "r", "concurrency_limit": 0}},
            "remote_storage.concurrency_limit",
        ),
        ({"listen_http_addr": "nonsense"}, "listen_http_addr"),
        ({"listen_pg_addr": "127.0.0.1:99999"}, "listen_pg_addr"),
        ({"http_auth_type": "Maybe"}, "http_auth_type"),
        ({"http_auth_type": "NeonJWT"}, "auth_validation_public_key_path"),
        ({"image_compression": "lz77"}, "image_compression"),
        ({"concurrent_tenant_warmup": 0}, "concurrent_tenant_warmup"),
        ({"concurrent_tenant_warmup": "8"}, "concurrent_tenant_warmup"),
        ({"background_task_maximum_delay": "10"}, "background_task_maximum_delay"),
        ({"no_sync": "yes"}, "no_sync"),
        ({"disk_usage_based_eviction": {"max_usage_pct": 101}}, "disk_usage_based_eviction.max_usage_pct"),
        ({"disk_usage_based_eviction": {"period": "x"}}, "disk_usage_based_eviction.period"),
        (
            {"disk_usage_based_eviction": {"mock_statvfs": {"type": "Success", "blocksize": 1}}},
            "disk_usage_based_eviction.mock_statvfs.total_blocks",
        ),
        ({"timeline_import_config": 5}, "timeline_import_config"),
        (
            {"timeline_import_config": {**IMPORTS, "verify_checksums": "yes"}},
            "timeline_import_config.verify_checksums",
        ),
    ],
)
def test_wrong_values_are_refused_by_name(changes: dict[str, Any], key: str) -> None:
    error = refused(**changes)
    assert error.key == key
    assert f"pageserver.toml: `{key}`: {error.reason}" == str(error)


@pytest.mark.parametrize("key", IMPORT_KEYS)
def test_import_config_needs_every_limit(key: str) -> None:
    table = {name: value for name, value in IMPORTS.items() if name != key}
    error = refused(timeline_import_config=table)
    assert (error.key, error.reason) == (f"timeline_import_config.{key}", "is required and missing")


@given(
    st.sampled_from(IMPORT_KEYS),
    st.one_of(st.integers(max_value=0), st.floats(allow_nan=False), st.text(), st.booleans()),
)
def test_import_limits_are_above_zero(key: str, value: Any) -> None:
    error = refused(timeline_import_config={**IMPORTS, key: value})
    assert error.key == f"timeline_import_config.{key}"
    assert "above zero" in error.reason


def test_unknown_keys_are_named_and_known_unused_ones_are_not() -> None:
    table = MINIMAL | {
        "page_cache_size": 5,
        "no_such_key": 1,
        "remote_storage": {"local_path": "x", "colour": "red"},
        "timeline_import_config": {**IMPORTS, "import_job_speed": 3},
        "tenant_config": {"gc_period": "1h", "gc_colour": "red"},
    }
    assert unknown_keys(table) == [
        "no_such_key",
        "remote_storage.colour",
        "timeline_import_config.import_job_speed",
        "tenant_config.gc_colour",
    ]


def test_keys_that_do_nothing_are_told() -> None:
    table = MINIMAL | {
        "page_cache_size": 5,
        "ssl_key_file": "server.key",
        "ssl_ca_file": "ca.crt",
        "remote_storage": {"local_path": "x", "small_timeout": "1s"},
        "disk_usage_based_eviction": {"eviction_order": {}, "period": "1s"},
    }
    assert sorted(ineffective_keys(table)) == [
        "disk_usage_based_eviction.eviction_order",
        "page_cache_size",
        "remote_storage.small_timeout",
        "ssl_ca_file",
        "ssl_key_file",
    ]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"enable_tls_page_service_api": True}, "enable_tls_page_service_api"),
        ({"listen_https_addr": "127.0.0.1:1"}, "ssl_cert_file"),
        ({"listen_https_addr": "nowhere", "ssl_cert_file": __file__}, "listen_https_addr"),
        ({"listen_https_addr": "127.0.0.1:1", "ssl_cert_file": __file__}, "ssl_key_file"),
        (
            {"listen_https_addr": "127.0.0.1:1", "ssl_cert_file": __file__, "ssl_key_file": __file__},
            "ssl_cert_file",
        ),
    ],
)
def test_tls_is_served_or_refused(tmp_path: Path, changes: dict[str, object], key: str) -> None:
    """Who asks for it never gets plain text."""
    with pytest.raises(ConfigError) as caught:
        parse_config(MINIMAL | changes, tmp_path)
    assert caught.value.key == key


def test_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pageserver\.toml: cannot be read: No such file"):
        load_config(tmp_path)
    (tmp_path / "pageserver.toml").write_text("x = = 1")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(tmp_path)
    (tmp_path / "pageserver.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(tmp_path)


@pytest.mark.parametrize("text", ["", "id = -1", 'id = "1"', "id = true", "id 5"])
def test_bad_identity(tmp_path: Path, text: str) -> None:
    (tmp_path / "identity.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"identity\.toml"):
        load_node_id(tmp_path)


def test_registration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    node_id = NodeId(3)
    assert load_registration(tmp_path, node_id, "az") is None
    metadata = {
        "host": "localhost",
        "port": 1,
        "http_host": "127.0.0.1",
        "http_port": 2,
        "https_port": None,
        "other": {"ignored": True},
    }
    file = tmp_path / "metadata.json"
    file.write_text(json.dumps(metadata))
    registration = load_registration(tmp_path, node_id, "az")
    assert registration is not None
    assert (registration.listen_pg_port, registration.availability_zone_id) == (1, "az")
    with pytest.raises(ConfigError, match="availability_zone_id"):
        load_registration(tmp_path, node_id, None)
    file.write_text(json.dumps(metadata | {"availability_zone_id": "own"}))
    registration = load_registration(tmp_path, node_id, "az")
    assert registration is not None
    assert registration.availability_zone_id == "own"
    file.write_text("not json")
    assert load_registration(tmp_path, node_id, "az") is None
    assert "Unreadable metadata.json" in caplog.text
