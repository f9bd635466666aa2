"""The witness's process: `witness --listen HOST:PORT [--spool DIR]`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from reattach.api.effects import Front
from reattach.runtime.logs import start_logging
from reattach.runtime.serve import bind, install_signals
from reattach.witness.http.listener import open_listener as open_http
from reattach.witness.postgres.listener import open_listener as open_postgres
from reattach.witness.s3.connection import Connection
from reattach.witness.s3.patience import Patience, Watchman
from reattach.witness.s3.service import BucketService
from reattach.witness.worlds import OpenListener

log = logging.getLogger(__name__)

_BACKLOG = 2048
_SHUTDOWN_SECONDS = 1.0


FRONTS: dict[Front, OpenListener] = {Front.HTTP: open_http, Front.POSTGRES: open_postgres}


class Listener:
    """Takes connections in on a listening socket."""

    def __init__(self, service: BucketService, sock: socket.socket) -> None:
        self._service = service
        self._sock = sock
        sock.setblocking(False)
        sock.listen(_BACKLOG)
        service.loop.add_reader(sock.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            while True:
                sock, _ = self._sock.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                Connection(self._service, sock)
        except BlockingIOError:
            pass
        except OSError as e:
            # Such as too many open files: the client waits in the backlog, and is tried again soon.
            log.error("cannot accept: %s", e.strerror)
            self._service.loop.remove_reader(self._sock.fileno())
            self._service.loop.call_later(0.05, self._resume)

    def _resume(self) -> None:
        if self._sock.fileno() >= 0:
            self._service.loop.add_reader(self._sock.fileno(), self._accept)

    def close(self) -> None:
        self._service.loop.remove_reader(self._sock.fileno())
        self._sock.close()


async def _serve(sock: socket.socket, spool: Path | None, patience: Patience) -> None:
    loop = asyncio.get_running_loop()
    stop = install_signals(signal.SIGTERM, signal.SIGINT)
    service = BucketService(loop, spool, FRONTS)
    listener = Listener(service, sock)
    Watchman(loop, service.connections, patience)
    log.info("listening on %s:%d", *sock.getsockname()[:2])
    await stop.wait()
    listener.close()
    deadline = loop.time() + _SHUTDOWN_SECONDS
    while any(connection.is_busy for connection in service.connections) and loop.time() < deadline:
        await asyncio.sleep(0.01)
    service.worlds.end_all()
    for connection in list(service.connections):
        connection.abort()


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="witness", description="A mock S3 that can misbehave, and a witness of all that passes."
    )
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument(
        "--spool",
        type=Path,
        metavar="DIR",
        help="where large objects lie, without a name; default: in memory",
    )
    parser.add_argument(
        "--patience",
        type=float,
        nargs=3,
        default=Patience(),
        metavar=("IDLE", "HEAD", "BODY"),
        help="seconds after which a connection without a request, a head that is not whole, and a body of "
        "which nothing more comes are given up; default: %(default)s",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT. Returns the exit status."""
    arguments = _arguments(sys.argv[1:] if argv is None else argv)
    start_logging()
    if arguments.spool is not None and not os.access(arguments.spool, os.W_OK | os.X_OK):
        print(f"witness: cannot write to spool directory {arguments.spool}", file=sys.stderr)  # noqa: T201
        return 1
    try:
        sock = bind(arguments.listen)
    except (OSError, ValueError) as e:
        print(f"witness: {e.strerror if isinstance(e, OSError) else e}", file=sys.stderr)  # noqa: T201
        return 1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.closing(sock), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(sock, arguments.spool, Patience(*arguments.patience)))
    return 0
