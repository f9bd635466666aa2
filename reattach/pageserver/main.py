"""`pageserver`: the command line."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from reattach import __version__
from reattach.api import pageserver_points
from reattach.pageserver.config.errors import ConfigError
from reattach.pageserver.config.identity import load_node_id, load_registration
from reattach.pageserver.config.pageserver_toml import PageServerConfig, load_config
from reattach.pageserver.pid_file import AlreadyRunning, claim_pid_file
from reattach.pageserver.process import PageServer, Sockets
from reattach.runtime.auth import TokenAuth
from reattach.runtime.aws import bypass_proxies, keep_credentials_only
from reattach.runtime.failpoints import failpoints
from reattach.runtime.file_limit import raise_file_limit
from reattach.runtime.logs import start_logging
from reattach.runtime.memory import collect_seldom, keep_freed_buffers
from reattach.runtime.serve import bind

log = logging.getLogger(__name__)

FEATURES = ("testing",)


def version_text() -> str:
    return f"reattach-{__version__} failpoints: true, features: {json.dumps(FEATURES)}"


def main(argv: list[str] | None = None) -> int:
    """Runs a pageserver until it is told to stop. `argv`: without the program's name."""
    arguments = _parse(sys.argv[1:] if argv is None else argv)
    if arguments.version:
        print(f"pageserver {version_text()}")  # noqa: T201
        return 0
    if arguments.enabled_features:
        print(json.dumps({"features": FEATURES}))  # noqa: T201
        return 0
    try:
        _run(arguments.workdir.absolute())
    except (AlreadyRunning, ConfigError, OSError, ValueError) as e:
        print(f"pageserver: {e}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pageserver", description="Imports and serves timelines.")
    parser.add_argument("-D", "--workdir", type=Path, default=Path(".neon"), help="working directory")
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument(
        "--enabled-features", action="store_true", help="print the compiled-in features as JSON and exit"
    )
    return parser.parse_args(argv)


def _run(workdir: Path) -> None:
    config, unknown, ineffective = load_config(workdir)
    node_id = load_node_id(workdir)
    start_logging()
    keep_freed_buffers()
    collect_seldom()
    launched_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    log.info("version: %s launch_timestamp: %s build_tag: none", version_text(), launched_at)
    for key in unknown:
        log.warning("ignoring unknown configuration item `%s`", key)
    if ineffective:
        log.info("configuration items that have no effect here: %s", ", ".join(ineffective))
    registration = load_registration(workdir, node_id, config.availability_zone)
    failpoints.know(pageserver_points.POINTS, pageserver_points.is_point)
    failpoints.configure_from_env(os.environ.get("FAILPOINTS", ""))
    if config.has_explicit_endpoints:
        ignored = keep_credentials_only(os.environ)
        if ignored:
            log.info("ignoring %s: the endpoints are configured", ", ".join(ignored))
    bypass_proxies(os.environ)
    raise_file_limit()
    os.chdir(workdir)
    (workdir / "tenants").mkdir(exist_ok=True)
    if config.no_sync:
        log.info("Skipping syncfs on startup")
    claim_pid_file(workdir / "pageserver.pid")
    https = None if config.listen_https_addr is None else bind(config.listen_https_addr)
    sockets = Sockets(http=bind(config.listen_http_addr), pg=bind(config.listen_pg_addr), https=https)
    server = PageServer(node_id, config, registration, sockets, _load_keys(config), version_text())
    uvloop.run(server.run())


def _load_keys(config: PageServerConfig) -> TokenAuth | None:
    path = config.auth_validation_public_key_path
    return None if path is None else TokenAuth.from_path(path)


if __name__ == "__main__":
    sys.exit(main())
