"""`pageserver.toml`: how this pageserver behaves. Typed, and wrong values are refused by name."""

from __future__ import annotations

import dataclasses
import ssl
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from reattach.api.controller import TENANT_CONFIG_KEYS
from reattach.pageserver.config import eviction, remote_storage
from reattach.pageserver.config.errors import ConfigError, from_validation
from reattach.pageserver.config.eviction import EvictionConfig, parse_eviction
from reattach.pageserver.config.known_keys import IGNORED_INSIDE, IGNORED_KEYS
from reattach.pageserver.config.remote_storage import LocalFsConfig, RemoteStorageConfig, parse_remote_storage
from reattach.pageserver.import_pgdata.config import ImportConfig
from reattach.pageserver.layers.compression import ImageCompression
from reattach.runtime.humantime import parse_duration
from reattach.runtime.serve import parse_address

FILE = "pageserver.toml"

IMPORT_KEYS = (
    "import_job_concurrency",
    "import_job_soft_size_limit",
    "import_job_checkpoint_threshold",
    "import_job_max_byte_range_size",
)
_IMPORT_DURATIONS = {"stall_timeout": "10s", "local_patience": "1h"}
_IMPORT_OPTIONAL_KEYS = ("verify_checksums", *_IMPORT_DURATIONS)


class AuthType(StrEnum):
    TRUST = "Trust"
    NEON_JWT = "NeonJWT"


class PageServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A pageserver's configuration, checked.

    certificate: PEM files of the certificate of `listen_https_addr` and of its key.
    control_plane_api ends with a slash. background_task_maximum_delay in seconds.
    tenant_config: defaults of the tenants, as written.
    """

    workdir: Path
    listen_pg_addr: str
    listen_http_addr: str
    listen_https_addr: str | None
    certificate: tuple[Path, Path] | None
    http_auth_type: AuthType
    pg_auth_type: AuthType
    auth_validation_public_key_path: Path | None
    control_plane_api: str
    control_plane_api_token: str | None
    control_plane_emergency_mode: bool
    remote_storage: RemoteStorageConfig
    imports: ImportConfig
    eviction: EvictionConfig
    concurrent_tenant_warmup: int
    background_task_maximum_delay: float
    pg_distrib_dir: Path
    availability_zone: str | None
    no_sync: bool
    tenant_config: dict[str, Any]

    @property
    def has_explicit_endpoints(self) -> bool:
        """Whether this file alone says where objects are."""
        remote = self.remote_storage
        is_explicit = isinstance(remote, LocalFsConfig) or remote.endpoint is not None
        return is_explicit and self.imports.aws_endpoint_url is not None


class _Wire(msgspec.Struct, frozen=True, kw_only=True):
    listen_pg_addr: str = "127.0.0.1:64000"
    listen_http_addr: str = "127.0.0.1:9898"
    listen_https_addr: str | None = None
    ssl_cert_file: str = "server.crt"
    ssl_key_file: str = "server.key"
    enable_tls_page_service_api: bool = False
    http_auth_type: AuthType = AuthType.TRUST
    pg_auth_type: AuthType = AuthType.TRUST
    auth_validation_public_key_path: str | None = None
    control_plane_api: str | None = None
    control_plane_api_token: str | None = None
    control_plane_emergency_mode: bool = False
    remote_storage: dict[str, Any] | None = None
    import_pgdata_aws_endpoint_url: str | None = None
    timeline_import_config: dict[str, Any] | None = None
    disk_usage_based_eviction: dict[str, Any] = {}
    image_compression: str = "zstd(1)"
    concurrent_tenant_warmup: int = 8
    background_task_maximum_delay: str = "10s"
    pg_distrib_dir: str | None = None
    availability_zone: str | None = None
    no_sync: bool = False
    tenant_config: dict[str, Any] = {}
    id: int | None = None


_TABLE_KEYS = {
    "remote_storage": remote_storage.KEYS,
    "disk_usage_based_eviction": eviction.KEYS,
    "timeline_import_config": frozenset(IMPORT_KEYS + _IMPORT_OPTIONAL_KEYS),
    "tenant_config": TENANT_CONFIG_KEYS,
}


def unknown_keys(table: dict[str, Any]) -> list[str]:
    """The keys that nobody knows, as dotted paths."""
    known = IGNORED_KEYS | frozenset(_Wire.__struct_fields__)
    unknown = [key for key in table if key not in known]
    for name, keys in _TABLE_KEYS.items():
        inner = table.get(name)
        if isinstance(inner, dict):
            unknown += [f"{name}.{key}" for key in inner if key not in keys]
    return unknown


def ineffective_keys(table: dict[str, Any]) -> list[str]:
    """The keys that are known and do nothing here, as dotted paths."""
    found = [key for key in table if key in IGNORED_KEYS]
    for name, keys in IGNORED_INSIDE.items():
        inner = table.get(name)
        if isinstance(inner, dict):
            found += [f"{name}.{key}" for key in inner if key in keys]
    if table.get("listen_https_addr") is None:
        found += [key for key in ("ssl_cert_file", "ssl_key_file") if key in table]
    return found


class Loaded(NamedTuple):
    """A configuration, and the keys in its file that nobody knows, and those that do nothing."""

    config: PageServerConfig
    unknown: list[str]
    ineffective: list[str]


def load_config(workdir: Path) -> Loaded:
    """The configuration of a working directory. Raises ConfigError."""
    path = workdir / FILE
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(FILE, "", f"cannot be read: {e.strerror}: {path}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(FILE, "", f"is not TOML: {e}") from e
    return Loaded(parse_config(table, workdir), unknown_keys(table), ineffective_keys(table))


def parse_config(table: dict[str, Any], workdir: Path) -> PageServerConfig:
    """Checks a parsed `pageserver.toml`. Raises ConfigError."""
    try:
        wire = msgspec.convert(table, _Wire)
    except msgspec.ValidationError as e:
        raise from_validation(FILE, "", e) from e
    if wire.control_plane_api is None:
        raise ConfigError(FILE, "control_plane_api", "must be set")
    if not wire.control_plane_api.startswith(("http://", "https://")):
        raise ConfigError(FILE, "control_plane_api", f"is no http URL: {wire.control_plane_api!r}")
    if wire.remote_storage is None:
        raise ConfigError(FILE, "remote_storage", "must be set")
    for name in ("listen_pg_addr", "listen_http_addr"):
        _checked(name, parse_address, getattr(wire, name))
    if wire.enable_tls_page_service_api:
        reason = "this pageserver serves pages without TLS only"
        raise ConfigError(FILE, "enable_tls_page_service_api", reason)
    if wire.concurrent_tenant_warmup <= 0:
        raise ConfigError(FILE, "concurrent_tenant_warmup", "must be above zero")
    return PageServerConfig(
        workdir=workdir,
        listen_pg_addr=wire.listen_pg_addr,
        listen_http_addr=wire.listen_http_addr,
        listen_https_addr=wire.listen_https_addr,
        certificate=_certificate(wire, workdir),
        http_auth_type=wire.http_auth_type,
        pg_auth_type=wire.pg_auth_type,
        auth_validation_public_key_path=_public_key_path(wire, workdir),
        control_plane_api=wire.control_plane_api.rstrip("/") + "/",
        control_plane_api_token=wire.control_plane_api_token,
        control_plane_emergency_mode=wire.control_plane_emergency_mode,
        remote_storage=parse_remote_storage(FILE, wire.remote_storage, workdir),
        imports=_import_config(wire),
        eviction=parse_eviction(FILE, wire.disk_usage_based_eviction),
        concurrent_tenant_warmup=wire.concurrent_tenant_warmup,
        background_task_maximum_delay=_checked(
            "background_task_maximum_delay", parse_duration, wire.background_task_maximum_delay
        ),
        pg_distrib_dir=workdir / (wire.pg_distrib_dir or ""),
        availability_zone=wire.availability_zone,
        no_sync=wire.no_sync,
        tenant_config=wire.tenant_config,
    )


def _checked(key: str, parse: Any, text: str) -> Any:
    try:
        return parse(text)
    except ValueError as e:
        raise ConfigError(FILE, key, str(e)) from e


def _certificate(wire: _Wire, workdir: Path) -> tuple[Path, Path] | None:
    if wire.listen_https_addr is None:
        return None
    _checked("listen_https_addr", parse_address, wire.listen_https_addr)
    paths = workdir / wire.ssl_cert_file, workdir / wire.ssl_key_file
    for key, path in zip(("ssl_cert_file", "ssl_key_file"), paths, strict=True):
        if not path.is_file():
            raise ConfigError(FILE, key, f"`listen_https_addr` needs it, and there is no file {path}")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(*paths)
    except (OSError, ValueError) as e:
        raise ConfigError(FILE, "ssl_cert_file", f"cannot be used with its key: {e}") from e
    return paths


def _public_key_path(wire: _Wire, workdir: Path) -> Path | None:
    if AuthType.NEON_JWT not in (wire.http_auth_type, wire.pg_auth_type):
        return None
    path = workdir / (wire.auth_validation_public_key_path or "auth_public_key.pem")
    if not path.exists():
        raise ConfigError(FILE, "auth_validation_public_key_path", f"does not exist: {path}")
    return path


def _import_config(wire: _Wire) -> ImportConfig:
    """Either no table, or all four of its limits, each above zero."""
    table = wire.timeline_import_config
    name = "timeline_import_config"
    base = ImportConfig(
        compression=_checked("image_compression", ImageCompression.parse, wire.image_compression),
        aws_endpoint_url=wire.import_pgdata_aws_endpoint_url,
    )
    if table is None:
        return base
    for key in IMPORT_KEYS:
        if key not in table:
            raise ConfigError(FILE, f"{name}.{key}", "is required and missing")
        if type(table[key]) is not int or table[key] <= 0:
            reason = f"must be a whole number above zero, not {table[key]!r}"
            raise ConfigError(FILE, f"{name}.{key}", reason)
    verify = table.get("verify_checksums", False)
    if type(verify) is not bool:
        raise ConfigError(FILE, f"{name}.verify_checksums", f"must be true or false, not {verify!r}")
    limits = {key: table[key] for key in IMPORT_KEYS}
    durations = {
        key: _checked(f"{name}.{key}", parse_duration, str(table.get(key, default)))
        for key, default in _IMPORT_DURATIONS.items()
    }
    return dataclasses.replace(base, verify_checksums=verify, **durations, **limits)
