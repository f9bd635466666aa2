"""The process `storage_controller`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
import sys

import uvloop

from reattach import __version__
from reattach.api.controller_points import ALL_POINTS
from reattach.runtime.errors import ApiError, cause_chain
from reattach.runtime.failpoints import failpoints
from reattach.runtime.http import json_app
from reattach.runtime.logs import start_logging
from reattach.runtime.memory import collect_seldom
from reattach.runtime.openapi import described
from reattach.runtime.serve import HttpServer, bind, install_signals
from reattach.storage_controller.config import Config, parse_arguments
from reattach.storage_controller.controller import Controller
from reattach.storage_controller.db.connection import forget_libpq_variables
from reattach.storage_controller.db.schema import SchemaTooNew
from reattach.storage_controller.routes import all_routes

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Serves until a signal ends it. The exit status: 0, or 1 if it could not start."""
    config, ignored = parse_arguments(argv)
    start_logging()
    collect_seldom()
    log.info("version: storage_controller %s", __version__)
    if config.dev:
        log.warning("Starting in dev mode: this may be an insecure configuration.")
    for flag in ignored:
        log.info("--%s has no effect in this controller", flag)
    forget_libpq_variables(os.environ)
    try:
        failpoints.know(ALL_POINTS)
        failpoints.configure_from_env(os.environ.get("FAILPOINTS", ""))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(config))
    except (ApiError, SchemaTooNew, OSError, ssl.SSLError, ValueError) as e:
        log.error("Cannot start: %s", cause_chain(e))
        return 1
    return 0


async def _run(config: Config) -> None:
    stop = install_signals(signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
    controller = Controller(config)
    try:
        await controller.load()
        servers = _servers(config, controller)
        controller.start()
        serving = [asyncio.create_task(server.serve()) for server in servers]
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([stopped, *serving], return_when=asyncio.FIRST_COMPLETED)
        log.info("Terminating on signal")
        for server in servers:
            server.stop()
        await asyncio.gather(*serving)
    finally:
        await controller.shutdown()
    log.info("Service shutdown complete")


def _servers(config: Config, controller: Controller) -> list[HttpServer]:
    app = json_app(described("storage controller", all_routes(controller)))
    servers = []
    if config.listen is not None:
        servers.append(HttpServer(app, bind(config.listen)))
        log.info("Serving HTTP on %s", config.listen)
    if config.listen_https is not None:
        servers.append(
            HttpServer(
                app,
                bind(config.listen_https),
                certificate=(config.ssl_cert_file, config.ssl_key_file),
            )
        )
        log.info("Serving HTTPS on %s", config.listen_https)
    return servers


if __name__ == "__main__":
    sys.exit(main())
