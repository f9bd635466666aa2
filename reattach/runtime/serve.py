"""Serving HTTP on a socket, and the signals that end a process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn

from reattach.runtime.http_protocol import BoundedProtocol, Limits

log = logging.getLogger(__name__)

_FAREWELL_SECONDS = 2.0


def parse_address(text: str) -> tuple[str, int]:
    """`host:port`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"not an address like 127.0.0.1:9898: {text!r}")
    return host.strip("[]"), int(port)


def bind(address: str) -> socket.socket:
    """A TCP socket bound to `host:port`, not yet listening. Raises OSError that names the address."""
    host, port = parse_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    # Whoever hands out the port may keep it reserved with a bound socket of its own.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as e:
        sock.close()
        raise OSError(e.errno, f"cannot listen on {address}: {e.strerror}") from e
    return sock


class _Server(uvicorn.Server):
    """uvicorn looks every tenth of a second whether it shall end; this one is told, and ends at once."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stop = asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._stop.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals belong to the process, which decides the order of shutting down.
        yield

    async def main_loop(self) -> None:
        # Each tick renews the date header.
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        state = self.server_state
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        for connection in list(state.connections):
            connection.shutdown()
        await self._until_idle(self.config.timeout_graceful_shutdown or 0)
        if not state.connections and not state.tasks:
            return
        log.info("%d requests took too long to end, telling them that this ends", len(state.tasks))
        connections = [c for c in state.connections if isinstance(c, BoundedProtocol)]
        for connection in connections:
            cycle = connection.cycle
            if cycle is not None and cycle.response_started and not cycle.response_complete:
                # There is no way to say it in the middle of an answer.
                connection.transport.abort()
        await asyncio.sleep(0)
        for task in list(state.tasks):
            task.cancel()
        await self._until_idle(_FAREWELL_SECONDS)
        for connection in connections:
            connection.transport.abort()

    async def _until_idle(self, seconds: float) -> None:
        """Until every request is answered, or the time is up."""
        state = self.server_state
        deadline, pause = time.monotonic() + seconds, 0.001
        while (state.connections or state.tasks) and time.monotonic() < deadline:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.02)


def _cut_off_quietly(app: Any) -> Any:
    """An answer that is cut off by the end of the server is no error of the application."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                raise
            log.info("an answer was cut off: the server ends")

    return wrapped


class HttpServer:
    """One ASGI application on one bound socket."""

    def __init__(
        self,
        app: Any,
        sock: socket.socket,
        *,
        shutdown_seconds: int = 5,
        certificate: tuple[Path, Path] | None = None,
        limits: Limits | None = None,
    ) -> None:
        """certificate: PEM files of the certificate and of its key, for HTTPS."""
        certificate_file, key_file = certificate or (None, None)
        config = uvicorn.Config(
            _cut_off_quietly(app),
            http=type("Protocol", (BoundedProtocol,), {"limits": limits or Limits()}),
            ws="none",
            proxy_headers=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=shutdown_seconds,
            backlog=2048,
            ssl_certfile=certificate_file,
            ssl_keyfile=key_file,
        )
        self._server = _Server(config)
        self._sock = sock

    @property
    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return self._server.started and not self._server.should_exit

    async def serve(self) -> None:
        """Serves until `stop`."""
        await self._server.serve(sockets=[self._sock])

    def stop(self) -> None:
        """Stops accepting; `serve` returns when open requests are answered or their time is up."""
        self._server.stop()


def install_signals(
    *graceful: signal.Signals, immediate: dict[signal.Signals, int] | None = None
) -> asyncio.Event:
    """Returns an event that the graceful signals set; the immediate ones exit at once with their code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in graceful:
        loop.add_signal_handler(sig, stop.set)
    for sig, code in (immediate or {}).items():
        loop.add_signal_handler(sig, os._exit, code)
    return stop
