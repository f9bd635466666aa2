"""The command line."""

from __future__ import annotations

import argparse
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reattach import __version__
from reattach.runtime.humantime import parse_duration
from reattach.runtime.serve import parse_address


@dataclass(frozen=True, slots=True)
class Config:
    """Times in seconds. Keys are PEM texts."""

    listen: str | None
    listen_https: str | None
    database_url: str
    dev: bool
    control_plane_url: str | None
    use_local_compute_notifications: bool
    address_for_peers: str | None
    max_offline_interval: float
    max_warming_up_interval: float
    heartbeat_interval: float
    db_connect_timeout: float
    long_reconcile_threshold: float
    reconciler_concurrency: int
    public_key: str | None
    jwt_token: str | None
    control_plane_jwt_token: str | None
    use_https_pageserver_api: bool
    ssl_key_file: Path
    ssl_cert_file: Path
    ssl_ca_file: Path | None

    def client_tls(self) -> ssl.SSLContext | None:
        """For calls to pageservers and to the control plane. Raises OSError, ssl.SSLError."""
        return None if self.ssl_ca_file is None else ssl.create_default_context(cafile=self.ssl_ca_file)


_WITHOUT_EFFECT = (
    "chaos-exit-crontab",
    "chaos-interval",
    "handle-ps-local-disk-loss",
    "initial-split-shards",
    "initial-split-threshold",
    "kick-secondary-downloads",
    "max-secondary-lag-bytes",
    "max-split-shards",
    "neon-local-repo-dir",
    "peer-jwt-token",
    "priority-reconciler-concurrency",
    "safekeeper-jwt-token",
    "safekeeper-reconciler-concurrency",
    "shard-split-request-timeout",
    "split-threshold",
    "ssl-cert-reload-period",
    "start-as-candidate",
    "tenant-rate-limit",
    "timeline-safekeeper-count",
    "timelines-onto-safekeepers",
    "use-https-safekeeper-api",
)


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"not true or false: {text!r}")
    return text == "true"


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def _address(text: str) -> str:
    try:
        parse_address(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e
    return text


def _pem(text: str) -> str:
    """The key itself, perhaps in quotes, or the path of its file."""
    text = text.strip('"')
    if text.startswith("-----"):
        return text
    try:
        return Path(text).read_text()
    except (OSError, UnicodeDecodeError) as e:
        raise argparse.ArgumentTypeError(f"neither a PEM nor a readable file: {e}") from e


def _add_switch(parser: argparse.ArgumentParser, flag: str, text: str) -> None:
    parser.add_argument(flag, type=_flag, nargs="?", const=True, default=False, metavar="BOOL", help=text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="storage_controller",
        description="Decides which pageserver holds which tenant shard, and sees imports to their end.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    env = os.environ.get
    add("--version", action="version", version=f"storage_controller {__version__}")
    add("-l", "--listen", type=_address, metavar="ADDR:PORT", help="serve HTTP here")
    add("--listen-https", type=_address, metavar="ADDR:PORT", help="serve HTTPS here")
    add("--database-url", default=env("DATABASE_URL"), help="the PostgreSQL that holds all state")
    add("--dev", action="store_true", help="run without secrets")
    add("--control-plane-url", metavar="URL", help="who is told of attachments and finished imports")
    _add_switch(parser, "--use-local-compute-notifications", "do not tell the control plane of attachments")
    add("--address-for-peers", metavar="URL", help="recorded as the leader's address")
    add("--max-offline-interval", type=_duration, default=30.0, help="silence after which a node is offline")
    add("--max-warming-up-interval", type=_duration, default=300.0, help="the same after a re-attach")
    add("--heartbeat-interval", type=_duration, default=5.0, help="how often nodes are asked")
    add(
        "--db-connect-timeout", type=_duration, default=5.0, help="how long to wait for the database at start"
    )
    add("--long-reconcile-threshold", type=_duration, default=120.0, help="when a reconcile counts as stuck")
    add("--reconciler-concurrency", type=int, default=128)
    add("--public-key", type=_pem, default=env("PUBLIC_KEY"), help="checks tokens of requests: PEM or file")
    add("--jwt-token", default=env("PAGESERVER_JWT_TOKEN"), help="sent to pageservers")
    add("--control-plane-jwt-token", default=env("CONTROL_PLANE_JWT_TOKEN"), help="sent to the control plane")
    _add_switch(parser, "--use-https-pageserver-api", "call pageservers over HTTPS")
    add("--ssl-key-file", type=Path, default=Path("server.key"))
    add("--ssl-cert-file", type=Path, default=Path("server.crt"))
    add("--ssl-ca-file", type=Path, help="trusted for calls to pageservers and the control plane")
    without_effect = parser.add_argument_group("accepted, without effect in this controller")
    for name in _WITHOUT_EFFECT:
        without_effect.add_argument(f"--{name}", nargs="?", const="true", help=argparse.SUPPRESS)
    return parser


def parse_arguments(argv: Sequence[str] | None) -> tuple[Config, list[str]]:
    """The configuration, and the flags that were given without having an effect. Exits on bad arguments."""
    parser = _parser()
    arguments = vars(parser.parse_args(argv))
    ignored = [name for name in _WITHOUT_EFFECT if arguments.pop(name.replace("-", "_")) is not None]
    config = Config(**arguments)
    if config.listen is None and config.listen_https is None:
        parser.error("one of --listen and --listen-https is required")
    if not config.database_url:
        parser.error("--database-url (or DATABASE_URL) is required")
    if not config.dev:
        required = ("public_key", "jwt_token", "control_plane_jwt_token", "control_plane_url")
        missing = [f"--{name.replace('_', '-')}" for name in required if arguments[name] is None]
        if missing:
            parser.error(f"without --dev, {', '.join(missing)} must be given")
    if config.heartbeat_interval <= 0:
        parser.error("--heartbeat-interval must be more than zero")
    if config.reconciler_concurrency < 1:
        parser.error("--reconciler-concurrency must be at least 1")
    return config, ignored
